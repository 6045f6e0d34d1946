// Turns each table of <audio> rows into one player on one clock; without JavaScript the rows stay as they are.
// All tables that are not players yet: not every notebook runs a script where it stands in its output.
document.querySelectorAll('.sepkit-player:not([role])').forEach((box) => {
  const { title, seconds: length } = box.dataset, seconds = +length;
  // One AudioContext a page, made by the first click; one player sounds at a time; the newest of a title takes over.
  const page = (window.sepkit ??= { newest: {}, count: 0 });
  const group = `sepkit-${page.count++}`, key = title || group, before = page.newest[key];
  const place = { at: 0, from: 0, to: seconds, loop: true, error: false, row: 0,
    ...(before?.seconds === seconds && before.place) };
  const rows = [...box.querySelectorAll('tr')].map((tr) => ({ tr, clips: [...tr.querySelectorAll('audio')] }));
  const clips = rows.flatMap((row) => row.clips);
  const limited = (t, low = 0, high = seconds) => Math.min(Math.max(t, low), high);
  let buffers, gains, sources = [], origin = 0, loading = false, frame;

  // --- sound: every clip plays from the same sample on; gains choose the one to hear
  const bytes = (url) => Uint8Array.from(atob(url.split(',')[1]), (c) => c.charCodeAt(0)).buffer;
  const chosen = (row = rows[place.row]) => row.clips.at(place.error ? -1 : 0);

  function position(time = page.context?.currentTime) {
    if (!sources.length) return place.at;
    const t = Math.max(time - origin, 0);
    return place.loop && t >= place.to ? place.from + ((t - place.from) % (place.to - place.from)) : limited(t);
  }

  function halt(when = 0) {
    for (const source of sources) {
      source.onended = null;
      source.stop(when);
    }
    sources = [];
  }

  function start(at) {
    const when = page.context.currentTime + 0.03;
    at = at ?? position(when);
    if (place.loop && (at < place.from || at >= place.to)) at = place.from;
    halt(when); // what played until now ends where the new sources begin
    const looping = { loop: place.loop, loopStart: place.from, loopEnd: place.to };
    sources = buffers.map((buffer, k) => {
      const source = new AudioBufferSourceNode(page.context, { buffer, ...looping });
      source.connect(gains[k]);
      source.start(when, at);
      return source;
    });
    sources[0].onended = () => { halt(); seek(0); };
    origin = when - at;
  }

  const player = {
    place, seconds,
    pause() {
      place.at = position();
      halt();
      paint();
    },
    async play() {
      if (loading) return;
      loading = true;
      try {
        const context = (page.context ??= new AudioContext());
        page.playing?.pause();
        Object.assign(page, { playing: player, left: null });
        output.textContent = 'loading';
        context.resume(); // not awaited: it may wait for a loudspeaker, while decoding does not
        buffers ??= await Promise.all(clips.map((clip) => context.decodeAudioData(bytes(clip.src))));
        gains ??= clips.map((clip) => {
          const gain = new GainNode(context, { gain: +(clip === chosen()) });
          gain.connect(context.destination);
          return gain;
        });
        if (page.playing === player) start(place.at);
        paint();
        follow();
      } catch {
        output.textContent = 'this browser cannot decode the clips';
      }
      loading = false;
    },
    goOn() {
      if (page.left?.key !== key) return;
      place.at = page.left.at;
      player.play();
    },
  };
  const toggle = () => (sources.length ? player.pause() : player.play());

  function seek(t) {
    place.at = limited(t, 0, seconds - 0.01);
    if (sources.length) start(place.at);
    paint();
  }

  function listen(row = place.row, error = place.error) {
    Object.assign(place, { row: limited(row, 0, rows.length - 1), error });
    gains?.forEach((gain, k) => gain.gain.setTargetAtTime(+(clips[k] === chosen()), page.context.currentTime, 0.004));
    paint();
  }

  function loop(on, from = place.from, to = place.to) {
    from = limited(from || 0, 0, seconds - 0.1);
    const at = position();
    Object.assign(place, { loop: on, from, to: limited(to || seconds, from + 0.1), at });
    if (sources.length) start(at);
    paint();
  }

  // --- sight: a bar of controls above the rows, a radio button and a waveform in each
  const bar = document.createElement('div');
  bar.className = 'bar';
  const limit = (name) => `<label>${name} <input type="number" name="${name}" min="0" max="${seconds}" step="0.1"></label>`;
  bar.innerHTML = `<button type="button"></button><input type="range" aria-label="position in seconds" min="0"
    max="${seconds}" step="0.01"><output></output><label><input type="checkbox" name="loop"> loop</label>
    ${limit('from')}${limit('to')}<label><input type="checkbox" name="error"> errors</label>`;
  const [button, slider, output] = bar.children;
  const field = Object.fromEntries([...bar.querySelectorAll('[name]')].map((input) => [input.name, input]));
  const errors = rows.some((row) => row.clips.length > 1);
  field.error.parentElement.hidden = !errors;
  const keys = document.createElement('small');
  keys.className = 'keys';
  keys.textContent = `Keys: space plays, 1 to 9 or ↑ ↓ choose a clip, ← → move 1 s${errors ? ', e errors' : ''}. ` +
    'Drag over a waveform to loop a part.';

  // Peaks are digits of base 36, 35 for the loudest peak of all clips.
  function outline(clip) {
    const peaks = [...clip.dataset.peaks].map((digit) => parseInt(digit, 36) / 35);
    const side = (sign) => peaks.map((peak, x) => `L${x} ${1 + sign * peak}`);
    return `M0 1${side(-1).join('')}${side(1).reverse().join('')}Z`;
  }

  rows.forEach((row, k) => {
    const [label, radio, wave] = ['label', 'input', 'div'].map((tag) => document.createElement(tag));
    Object.assign(radio, { type: 'radio', name: group, onchange: () => listen(k) });
    const cell = row.tr.querySelector('th');
    label.append(radio, ` ${k + 1} `, ...cell.childNodes);
    cell.append(label);
    wave.className = 'wave';
    wave.innerHTML = `<svg viewBox="0 0 ${row.clips[0].dataset.peaks.length - 1} 2" preserveAspectRatio="none"
      aria-hidden="true"><path></path></svg>`;
    row.clips[0].before(wave);
    row.clips.forEach((clip) => { clip.hidden = true; });
    Object.assign(row, { radio, path: wave.querySelector('path') });
    drag(wave);
  });

  // A click moves to its time; a drag of more than 4 pixels loops what it covers.
  function drag(wave) {
    const time = (event) => {
      const { left, width } = wave.getBoundingClientRect();
      return limited(((event.clientX - left) / width) * seconds);
    };
    wave.onpointerdown = (down) => {
      if (down.button) return;
      const first = time(down);
      let part;
      wave.setPointerCapture(down.pointerId);
      wave.onpointermove = (event) => {
        if (!part && Math.abs(event.clientX - down.clientX) <= 4) return;
        part = [first, time(event)].sort((a, b) => a - b);
        show({ from: part[0], to: part[1] });
      };
      wave.onlostpointercapture = () => {
        wave.onpointermove = null;
        if (part) loop(true, ...part);
        seek(part ? part[0] : first);
      };
    };
  }

  function show({ from, to }) {
    const percent = (t) => `${(100 * t) / seconds}%`;
    Object.entries({ at: position(), from, to }).forEach(([name, t]) => box.style.setProperty(`--${name}`, percent(t)));
  }

  function paint() {
    const t = position(), playing = sources.length > 0;
    show(place);
    button.textContent = playing ? '❚❚ Pause' : '► Play';
    slider.value = t;
    output.textContent = `${t.toFixed(1)} of ${seconds.toFixed(1)} s`;
    slider.setAttribute('aria-valuetext', output.textContent);
    for (const input of [field.loop, field.error]) input.checked = place[input.name];
    for (const input of [field.from, field.to])
      if (input !== document.activeElement) input.value = place[input.name].toFixed(1);
    box.classList.toggle('loop', place.loop && place.to - place.from < seconds - 0.05);
    rows.forEach((row, k) => {
      row.radio.checked = k === place.row;
      row.tr.classList.toggle('heard', k === place.row);
      if (row.shown !== chosen(row)) row.path.setAttribute('d', outline((row.shown = chosen(row))));
    });
  }

  // Taken off the page, a player stops; the next of its title goes on from there.
  function follow() {
    cancelAnimationFrame(frame);
    if (!sources.length) return;
    if (box.isConnected) {
      paint();
      frame = requestAnimationFrame(follow);
      return;
    }
    player.pause();
    page.left = { key, at: place.at };
    if (page.newest[key] !== player) page.newest[key].goOn();
  }

  button.onclick = toggle;
  slider.oninput = () => seek(+slider.value);
  field.error.onchange = () => listen(place.row, field.error.checked);
  for (const input of [field.loop, field.from, field.to])
    input.onchange = () => loop(field.loop.checked, +field.from.value, +field.to.value);
  box.onkeydown = (event) => {
    const { key, target } = event;
    if (target.type === 'number' || event.ctrlKey || event.altKey || event.metaKey) return;
    if (key === ' ' && (target === button || target.type === 'checkbox')) return;
    const choose = (row) => {
      listen(row);
      rows[place.row].radio.focus(); // which has screen readers say it
    };
    const action = {
      ' ': toggle,
      ArrowUp: () => choose(place.row - 1),
      ArrowDown: () => choose(place.row + 1),
      ArrowLeft: () => seek(position() - 1),
      ArrowRight: () => seek(position() + 1),
      e: () => errors && listen(place.row, !place.error),
    }[key] ?? (+key >= 1 && +key <= rows.length && (() => choose(key - 1)));
    if (!action) return;
    action();
    event.preventDefault();
    event.stopPropagation(); // a notebook has its own meaning for digits and space
  };

  box.setAttribute('role', 'group');
  box.setAttribute('aria-label', title ? `player: ${title}` : 'player');
  box.tabIndex = -1; // a click anywhere gives it the keys
  box.dataset.lmSuppressShortcuts = 'true'; // the same for JupyterLab
  box.querySelector('table').before(bar);
  box.querySelector('table').after(keys);
  if (!document.getElementById('sepkit-player-style')) {
    const style = document.createElement('style');
    style.id = 'sepkit-player-style';
    // Ink is the page's own, so that dark and light follow it.
    style.textContent = `
.sepkit-player {
  max-width: 60rem; margin: .8rem 0;
  .bar { display: flex; flex-wrap: wrap; gap: .4rem .8rem; align-items: center; margin: .4rem 0; }
  button, [type=number] { font: inherit; color: inherit; background: none; border: 1px solid; border-radius: 4px;
    padding: .15rem .5rem; box-sizing: border-box; }
  [type=number] { width: 4.2rem; padding-right: 0; }
  button { min-width: 6rem; cursor: pointer; }
  [type=range] { flex: 1 1 8rem; min-width: 6rem; }
  output { font-variant-numeric: tabular-nums; min-width: 6.5rem; }
  table { width: 100%; }
  th, td { white-space: nowrap; font-weight: normal; line-height: 1.2; }
  td:nth-child(2) { width: 100%; min-width: 6rem; }
  .heard > * { background: color-mix(in srgb, currentColor 12%, transparent); }
  .wave { position: relative; height: 2.2rem; cursor: text; touch-action: pan-y; overflow: hidden; }
  svg { display: block; width: 100%; height: 100%; opacity: .6; }
  .heard svg { opacity: 1; }
  path { fill: currentColor; stroke: currentColor; vector-effect: non-scaling-stroke; }
  .wave::after { content: ""; position: absolute; inset: 0 auto 0 var(--at); border-left: 2px solid #d9480f; }
  &.loop .wave::before { content: ""; position: absolute; inset: 0 calc(100% - var(--to)) 0 var(--from);
    border: solid #d9480f; border-width: 0 1px; background: color-mix(in srgb, #d9480f 20%, transparent); }
  small { display: block; margin-top: .2rem; }
  :focus-visible { outline: 2px solid; outline-offset: 2px; }
  @media (max-width: 40rem) { th { white-space: normal; } }
  @media print { .bar, .keys, [type=radio] { display: none; } }
}`;
    document.head.append(style);
  }
  page.newest[key] = player;
  listen();
  player.goOn();
});
