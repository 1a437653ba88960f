"""Reading the HTML files that we write."""

import re
from html.parser import HTMLParser

LINKING = {"src", "href", "xlink:href", "srcset", "poster", "data", "action", "background", "manifest"}
VOID = {"meta", "link", "br", "hr", "img", "input", "source"}


class Page(HTMLParser):
    """What a browser would load, what is shown, and whether tags are closed."""

    def __init__(self, html: str):
        super().__init__()
        self.links, self.tags, self.open = [], [], []
        self.shown = {tag: [] for tag in ("pre", "td", "h2", "h3", "p", "blockquote", "code", "figcaption")}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in LINKING]
        self.links += [found for name, value in attrs for found in re.findall(r"url\(([^)]*)\)", value or "")]
        if tag not in VOID:
            self.open.append(tag)
        if tag in self.shown:
            self.shown[tag].append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in reversed(self.open):
            if tag in self.shown:
                self.shown[tag][-1] += data
                break
        if "style" in self.open:
            assert "@import" not in data and "url(http" not in data

    def check_it_stands_alone(self) -> None:
        """It is whole, runs nothing, and loads nothing from outside."""
        assert self.open == []
        assert {"script", "link", "iframe", "object", "embed", "base"}.isdisjoint(self.tags)
        for link in self.links:
            assert link.startswith(("data:", "#")), link
