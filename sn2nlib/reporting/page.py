"""Pieces of the report's page: plain HTML with a few lines of CSS, nothing from outside."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import pandas as pd
from PIL import Image

# a table as great_tables writes it, with some 8 kB of CSS for its own id
_GREAT_TABLE = re.compile(r'<div id="([^"]+)"([^>]*)>\s*<style>(.*?)</style>', re.DOTALL)
_LONG_NAME = 25  # letters of a row's name, beyond which its column is kept from shrinking
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 62rem; margin: auto;
  padding: 1rem; }
h1, h2, h3 { line-height: 1.25; } h2 { border-bottom: 2px solid #0072b2; margin-top: 2.5rem; }
a { color: #005a8e; } nav ul { columns: 16rem; column-gap: 2.5rem; padding-left: 1.2rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table.plain { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
table.plain caption { text-align: left; font-weight: 600; padding: 0.3rem 0; }
table.plain th, table.plain td { border: 1px solid #bbb; padding: 0.2rem 0.6rem; text-align: left;
  vertical-align: top; }
table.plain thead th { background: #eef4f8; }
table.plain .number { text-align: right; } table.plain td.number { white-space: nowrap; }
table.plain thead th { min-width: 4rem; } table.worded tbody th { min-width: 14rem; }
table.plain td.address { overflow-wrap: anywhere; }
figure { margin: 1.5rem 0; } figure img { width: 100%; height: auto; }
figcaption, .note { font-size: 0.9rem; color: #333; }
.missing { border-left: 4px solid #d55e00; padding: 0.2rem 1rem; background: #fdf3ec; }
@media print { body { max-width: none; font-size: 10pt; } nav { display: none; } .scroll { overflow: visible; }
  figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; } table { font-size: 8pt !important; } }
"""


def document(title: str, introduction: str, sections: Iterable[tuple[str, str, str]]) -> str:
    """A whole page.

    Parameters
    ----------
    title
        Plain text.
    introduction
        HTML that stands above the contents.
    sections
        (anchor, heading as plain text, HTML) in order.
    """
    listed = list(sections)
    links = "".join(f'<li><a href="#{anchor}">{escape(heading)}</a></li>' for anchor, heading, _ in listed)
    parts = "".join(
        f'<section id="{anchor}"><h2>{escape(heading)}</h2>\n{content}</section>\n'
        for anchor, heading, content in listed
    )
    parts, style = _with_shared_style(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f'{introduction}\n<nav aria-label="Contents"><ul>{links}</ul></nav>\n<main>\n{parts}</main>\n</body>\n</html>\n'
    )


def _with_shared_style(html: str) -> tuple[str, str]:
    """The HTML with its great_tables without CSS of their own; and that CSS, each kind once, for the class it gives."""
    classes: dict[str, str] = {}

    def without_style(table: re.Match[str]) -> str:
        name, attributes, style = table.groups()
        kind = classes.setdefault(style.replace(f"#{name} ", ".{} "), f"great{len(classes) + 1}")
        return f'<div id="{name}" class="{kind}"{attributes}>'

    html = _GREAT_TABLE.sub(without_style, html)
    return html, "".join(style.replace(".{} ", f".{kind} ") for style, kind in classes.items())


def paragraph(text: str, *, kind: str = "") -> str:
    """A paragraph of plain text; `kind` is "note", "missing" or nothing."""
    return f'<p class="{kind}">{escape(text)}</p>\n' if kind else f"<p>{escape(text)}</p>\n"


def bullets(texts: Iterable[str]) -> str:
    """A list of plain texts."""
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>\n"


def scrollable(content: str, *, label: str) -> str:
    """HTML that may be wider than a phone, in a box that scrolls by touch and by key."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">{content}</div>\n'


def table(rows: pd.DataFrame, *, caption: str, numbers: Sequence[str] = ()) -> str:
    """A table whose first column names its rows.

    Parameters
    ----------
    rows
        Texts, as they shall stand there; the columns' names are the header.
    caption
        Plain text.
    numbers
        Columns to align on the right.
    """
    columns = [str(column) for column in rows.columns]
    classes = {column: ' class="number"' if column in numbers else "" for column in columns}
    head = "".join(f'<th scope="col"{classes[column]}>{escape(column)}</th>' for column in columns)
    body, address = "", ' class="address"'
    worded = " worded" if rows.iloc[:, 0].astype(str).str.len().max() > _LONG_NAME else ""
    for row in rows.itertuples(index=False):
        name, *others = (escape(str(text)) for text in row)
        cells = "".join(
            f"<td{address if '://' in text else classes[column]}>{text}</td>"
            for column, text in zip(columns[1:], others, strict=True)
        )
        body += f'<tr><th scope="row"{classes[columns[0]]}>{name}</th>{cells}</tr>\n'
    content = f'<table class="plain{worded}"><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>\n'
    return scrollable(f"{content}<tbody>{body}</tbody></table>", label=caption)


def figure(path: Path, *, folder: Path, counterpart: str = "") -> str:
    """A figure with the title and the caption that `sn2nlib.reporting.figures` has written into the file.

    Parameters
    ----------
    path
        PNG file inside `folder`, where the page lies.
    counterpart
        What stands in the paper, for example "Figure 5".
    """
    with Image.open(path) as image:
        texts = {key: str(value) for key, value in image.info.items()}
        width, height = image.size
    title = texts.get("Title", path.stem.replace("_", " "))
    source = escape(path.relative_to(folder).as_posix())
    paper = f" In the paper: {counterpart}." if counterpart else ""
    return (
        f'<figure><a href="{source}"><img src="{source}" width="{width}" height="{height}" alt="{escape(title)}"></a>\n'
        f"<figcaption><strong>{escape(title)}.</strong> {escape(texts.get('Description', '') + paper)}"
        "</figcaption></figure>\n"
    )
