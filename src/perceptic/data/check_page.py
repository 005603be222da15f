"""The frame of pages that show training data: one file, pictures inside it, no scripts."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

from perceptic.data.check_table import TextTable

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 24px auto; max-width: 1100px; padding: 0 16px; color: #222; }
section { border-top: 1px solid #ccc; padding: 12px 0; }
h2 { font-size: 15px; margin: 0 0 6px; overflow-wrap: anywhere; } h2 small { color: #666; font-weight: normal; }
table { border-collapse: collapse; margin: 12px 0; font-size: 14px; } .wide { overflow-x: auto; }
th, td { text-align: right; padding: 2px 10px; white-space: nowrap; }
th { border-bottom: 1px solid #999; } td:first-child, th:first-child, td:last-child, th:last-child { text-align: left; }
.chunks { display: flex; flex-wrap: wrap; gap: 4px; align-items: flex-start; }
figure { margin: 0; } .chunks img { height: 112px; }
.tiles { display: grid; gap: 2px; } .chunks .tiles img { height: 56px; }
figcaption { font-size: 11px; color: #888; text-align: center; line-height: 1.2; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f6; padding: 8px; margin: 8px 0 0; }
mark { background: #b9e5b0; color: inherit; } .pictures { color: #0a58a8; } .special { color: #888; }
"""


def page(title: str, content: str) -> str:
    """A whole HTML file."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{html.escape(title)}</h1>\n{content}</body></html>\n"
    )


def section(where: str, facts: Sequence[str], pictures: Sequence[bytes], text: str, tile_columns: int = 0) -> str:
    """A sample: where it is from, its pictures (PNG or JPEG files) with their numbers, and HTML below them.

    Args:
        tile_columns: the pictures after the first are tiles of it, in so many columns; 0: they are not.
    """
    figures = [_figure(number, content) for number, content in enumerate(pictures)]
    if tile_columns:
        style = f"grid-template-columns: repeat({tile_columns}, max-content)"
        figures = [figures[0], f'<div class="tiles" style="{style}">{"".join(figures[1:])}</div>']
    return (
        f"<section><h2>{html.escape(where)} <small>{html.escape(', '.join(facts))}</small></h2>\n"
        f'<div class="chunks">{"".join(figures)}</div>\n<pre>{text}</pre></section>\n'
    )


def table(content: TextTable) -> str:
    """A table as HTML; nothing if it has no lines."""
    if not content.lines:
        return ""

    def line(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>\n"

    lines = "".join(line(cells, "td") for cells in content.lines)
    return f'<div class="wide"><table>{line(content.columns, "th")}{lines}</table></div>\n'


def _figure(number: int, content: bytes) -> str:
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    data = base64.b64encode(content).decode()
    return (
        f'<figure><img src="data:image/{kind};base64,{data}" alt="chunk {number}">'
        f"<figcaption>{number}</figcaption></figure>"
    )
