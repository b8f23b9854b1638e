"""The HTML document around a page's parts: no network, and at most one script, which is named by its digest."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from string import Template

_DOCUMENT = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="$policy">
<link rel="icon" href="data:,">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
<footer>Made by fedemb. Nothing on this page was loaded from elsewhere.</footer>
</main>$script
</body>
</html>
""")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def document(parts: Iterable[str], *, title: str, style: str, script: str = "") -> str:
    """A self-contained document, whose policy forbids everything that is not in it.

    parts: HTML; empty ones are left out. title: text. style: CSS. script: JavaScript that may run; "" for none.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _DOCUMENT.substitute(
        title=escape(title),
        style=style,
        body="\n".join(filter(None, parts)),
        policy=f"{_POLICY}; script-src 'sha256-{digest}'" if script else _POLICY,
        script=f"\n<script>{script}</script>" if script else "",
    )
