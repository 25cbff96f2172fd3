"""Figures in the dark: the same hues, light enough to be seen; text and paper change places.

As ``analysis/web/theme.js`` does it in a browser, for pictures that are files.
"""

import re
from typing import Any

import plotly.graph_objects as go

__all__ = ["PAPER", "darkened", "in_the_dark"]

PAPER = (13, 17, 23)  # GitHub's page in the dark
_NAMED = {"white": (255.0, 255.0, 255.0), "black": (0.0, 0.0, 0.0)}
_INK = 238  # what black becomes
_ENOUGH = 4.5  # contrast with the paper, WCAG's for text


def in_the_dark(text: str) -> str:
    """Return a colour for dark paper: greys are turned over, hues mixed with white until they stand out.

    What is no colour stays as it is.
    """
    parsed = _parsed(text)
    if parsed is None:
        return text
    (red, green, blue), alpha = parsed
    if max(red, green, blue) - min(red, green, blue) < 12:
        share = 1 - (red + green + blue) / 765
        red, green, blue = (part + share * (_INK - part) for part in PAPER)
    for _ in range(12):
        if _contrast((red, green, blue), PAPER) >= _ENOUGH or max(red, green, blue) - min(red, green, blue) < 12:
            break
        red, green, blue = (part + 0.12 * (255 - part) for part in (red, green, blue))
    return f"rgba({round(red)},{round(green)},{round(blue)},{alpha:g})"


def _parsed(text: str) -> tuple[tuple[float, ...], float] | None:
    if text in _NAMED:
        return _NAMED[text], 1.0
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        return tuple(float(int(text[i : i + 2], 16)) for i in (1, 3, 5)), 1.0
    match = re.fullmatch(r"rgba?\(([\d.]+), ?([\d.]+), ?([\d.]+)(?:, ?([\d.]+))?\)", text)
    if match is None:
        return None
    return tuple(map(float, match.groups()[:3])), float(match[4] or 1.0)


def _luminance(colour: tuple[float, ...]) -> float:
    """Return WCAG's relative luminance."""
    shares = (part / 255 for part in colour)
    linear = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)


def darkened(figure: go.Figure) -> go.Figure:
    """Return a figure in the dark."""
    return go.Figure(_turned(figure.to_plotly_json(), ""))


def _turned(value: Any, key: str) -> Any:
    if isinstance(value, str):
        return in_the_dark(value) if "color" in key or value in _NAMED else value
    if isinstance(value, dict):
        return {name: _turned(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        # Pairs of a colour scale are a number and a colour.
        return [_turned(item, key) if not isinstance(item, int | float) else item for item in value]
    return value
