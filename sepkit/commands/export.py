"""`export`: a trained network for use elsewhere: weights, configuration, a model card, and ten lines that load them."""

from pathlib import Path
from typing import Any

from sepkit.errors import SepkitError
from sepkit.experiments import entry_of, run_named
from sepkit.profiles import ProfileLike, get_profile
from sepkit.storage import Root, RootLike, read_scores, write_json, write_text, writing

ARGUMENTS = {
    "run": {"help": "a trained run, or an experiment (Base: Base-s0)"},
    "folder": {"help": "a new or empty folder, or one of an export before"},
}
FILES = ("config.json", "load.py", "model.safetensors", "README.md")
LOADS = Path(__file__).with_name("load.txt")
LICENCES = {
    "made": "Synthetic songs that sepkit makes: free of rights.",
    "downloaded": "MUSDB18's 7-second excerpts: for academic use only, under the licences of their tracks "
    "(https://doi.org/10.5281/zenodo.1117372).",
    "given": "As the songs of the folder say; MUSDB18-HQ is for academic use only, under the licences of its tracks "
    "(https://doi.org/10.5281/zenodo.3338373).",
}


def export(run: str, folder: Path | str, *, root: RootLike = None, profile: ProfileLike = None) -> Path:
    """Writes the best weights of `run` into `folder` and returns it: model.safetensors, config.json, load.py, README.md.

    A network from outside this package comes with the file of its class.

    Raises SepkitError where the run is not finished, or `folder` holds other files.
    """
    from safetensors.torch import save_file  # with torch, as the next two, which --help does not need

    from sepkit.models import own
    from sepkit.storage.checkpoints import load_model

    place = Root.open(root, profile)
    source = run_named(place, run)
    folder, code = Path(folder).expanduser(), own.code((source.config.get("model") or {}).get("name", ""))
    known = {*FILES, "__pycache__", *(file.partition("/")[0] for file in code)}
    if folder.exists() and (not folder.is_dir() or {each.name for each in folder.iterdir()} - known):
        expected = "a new or empty folder, or an export"
        raise SepkitError(f"Expected {expected}, but {folder} holds other files; give another.")
    if not source.finished:
        raise SepkitError(f"{source.name} {source.standing}; train it to its end before it is exported.")
    model, config = load_model(source), source.config
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    with writing(folder / "model.safetensors") as part:
        save_file(weights, part, metadata={"run": source.name})
    write_json(folder / "config.json", config)
    for file, text in {"load.py": LOADS.read_text(encoding="utf-8"), **code}.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        write_text(folder / file, text)
    write_text(folder / "README.md", _card(source, config, sum(value.numel() for value in model.parameters())))
    return folder


def _card(run: Any, config: dict[str, Any], parameters: int) -> str:
    """The model card: what it is, how it was trained, on what, how well, under which licence."""
    profile, status, songs = get_profile(config["profile"]), run.status, config["data"]
    facts = {
        "experiment": f"{config['experiment']}: {entry_of(config).change}",
        "network": f"{config['model']['name']}, {parameters:,} parameters, {config['model']['sample_rate']} Hz",
        "songs": f"{profile.songs}; trained on {len(songs['train'])}, chosen on {len(songs['valid'])}",
        "training": f"seed {config['seed']}, {status.get('epochs')} epochs, best {status.get('best_epoch')}, "
        f"{status.get('minutes', 0):.1f} min on {status.get('device')}",
    }
    rows = [f"| {name} | {text} |" for name, text in facts.items()]
    lines = [f"# {run.name}", "", "| what | |", "|---|---|", *rows, ""]
    if run.scored:
        scores = read_scores(run.scores_path)
        medians = scores.groupby(["source", "metric"], sort=False)["value"].median().unstack("source")
        about = f"Medians over {scores['track'].nunique()} test songs, dB; protocol {scores['protocol'].iloc[0]}:"
        lines += [about, "", medians.round(2).to_markdown(missingval="—"), ""]
    else:
        lines += ["Not scored on test songs.", ""]
    lines += [
        "Licence of the songs that it was trained on:",
        "",
        LICENCES[profile.songs_from],
        "",
        "`load.py` loads it.",
    ]
    return "\n".join(lines) + "\n"
