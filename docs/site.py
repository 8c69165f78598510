"""Hooks of the documentation site: pages that stand elsewhere in the repository, and links to them.

The README becomes the first page and each card in models/bundles a page of its own; links between repository files
then point to pages, and where there is none they become plain text.
"""

import re
from pathlib import Path
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
CARDS = {file.parent.name: file for file in sorted((ROOT / "models" / "bundles").glob("*/CARD.md"))}
ELSEWHERE = {"README.md": "index.md"} | {
    f"models/bundles/{name}/CARD.md": f"models/{name}.md" for name in CARDS
}  # in the repository -> on the site
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
_DECISION = re.compile(r"^(\d+)\. ", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the README, the cards and their list."""
    index = "# Models\n\nWhat each bundle is, learned from and was measured on: its card.\n\n"
    index += "\n".join(f"- [{name}]({name}.md)" for name in CARDS)
    files.append(File.generated(config, "models/README.md", content=index))
    for source, target in ELSEWHERE.items():
        content = to_site((ROOT / source).read_text("utf-8"), source=source, target=target)
        files.append(File.generated(config, target, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that leave docs/ point to the pages that stand for them; decisions keep their numbers."""
    path = page.file.src_uri
    if page.file.generated_by:
        return markdown
    if path == "decisions/README.md":
        markdown = _DECISION.sub(r"\n**\1.** ", markdown)  # a list would be numbered anew, without the gaps
    return to_site(markdown, source=f"docs/{path}", target=path)


def to_site(markdown: str, *, source: str, target: str) -> str:
    """The text of the repository file `source` with the links that the page `target` needs."""

    def link(match: re.Match[str]) -> str:
        image, text, path, anchor = match.groups(default="")
        file = normpath(f"{source.rpartition('/')[0] or '.'}/{path}")
        page = ELSEWHERE.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else None)
        if page is None:
            return text if text.strip("`/") == file else f"{text} (`{file}`)"
        return f"{image}[{text}]({relpath(page, target.rpartition('/')[0] or '.')}{anchor})"

    return _LINK.sub(link, markdown)
