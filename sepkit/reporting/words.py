"""What the students write themselves: `report/words.md`, Markdown under fixed headings, shown by the milestone report.

The first report writes the file with empty headings; afterwards it is theirs and is never written again. A level-1
heading that the report does not know is shown with what they think. HTML in it is shown as text, a picture as its
description: the report stays one file that loads nothing.
"""

import re

from markupsafe import Markup
from mistune import HTMLRenderer, create_markdown

from sepkit.storage import Root, write_text
from sepkit.storage.files import text_of

NAMES, COURSE, QUESTION, PREDICTIONS, THOUGHTS = HEADINGS = (
    "Names", "Course", "My question", "My predictions", "What I think",
)  # fmt: skip
TEMPLATE = (
    "<!-- Write below the headings; Markdown works. The report shows these words and never changes this file. -->\n"
)
COMMENT = re.compile(r"<!--.*?-->", re.S)


class _Renderer(HTMLRenderer):
    def image(self, text: str, url: str, title: str | None = None) -> str:
        return text

    def heading(self, text: str, level: int, **attributes: object) -> str:
        return f"<h{min(level + 2, 6)}>{text}</h{min(level + 2, 6)}>\n"  # below the report's own


_render = create_markdown(renderer=_Renderer(escape=True), plugins=["table", "strikethrough"])


def html_of(text: str) -> Markup:
    """Markdown as safe HTML.

    >>> print(html_of("**2 dB**, <b>loud</b>"))
    <p><strong>2 dB</strong>, &lt;b&gt;loud&lt;/b&gt;</p>
    <BLANKLINE>
    """
    return Markup(_render(text))


def words(root: Root) -> dict[str, Markup]:
    """The students' words by heading, as HTML; "" for none. Writes the template where there is no file yet."""
    path = root.path / "report" / "words.md"
    if not path.exists():
        write_text(path, TEMPLATE + "".join(f"\n# {heading}\n\n" for heading in HEADINGS))
    found = dict.fromkeys(HEADINGS, "")
    before, *parts = re.split(r"^#[ \t]+(.+?)[ \t#]*$", COMMENT.sub("", text_of(path.read_bytes())), flags=re.M)
    found[THOUGHTS] = before.strip()
    for heading, text in zip(parts[::2], parts[1::2], strict=True):
        known = next((name for name in HEADINGS if name.lower() == heading.strip().lower()), None)
        found[known or THOUGHTS] += text if known else f"\n\n## {heading}\n{text}"
    return {heading: html_of(text) if text.strip() else Markup("") for heading, text in found.items()}
