#!/usr/bin/env python3
"""Writes the generated parts of the book: commands, options, recipes and models, as the program itself describes them.

    cargo build
    python3 bench/scripts/docs_reference.py target/debug/efficienttrain            # writes
    python3 bench/scripts/docs_reference.py target/debug/efficienttrain --check    # fails if a page is out of date

A part stands between `<!-- generated: NAME -->` and `<!-- end of generated: NAME -->`. Needs Python alone.
"""
import json
import pathlib
import re
import subprocess
import sys

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
OPTION = re.compile(r"^ {2,6}(-[\w-].*?)(?: {2,}(\S.*))?$")
ARGUMENT = re.compile(r"^ {2}([\[<]\S+)(?: {2,}(\S.*))?$")
GLOBAL = ("-h, --help", "-V, --version", "--threads")
# Commands that take the options of `train` and change some of them.
LIKE_TRAIN = ("pretrain", "search", "compare", "finetune", "preview")


def run(binary, *args):
    return subprocess.run([binary, *args], check=True, capture_output=True, text=True).stdout


def paragraphs(lines):
    """Joins wrapped lines; a blank line or a list item begins a new paragraph."""
    out, fresh = [], True
    for line in lines:
        text = line.strip()
        if not text:
            fresh = True
        elif fresh or text.startswith("- ") or text == "Possible values:":
            out.append(text)
            fresh = text == "Possible values:"
        else:
            out[-1] += " " + text
    return out


def parse_help(text):
    """Returns the description, the usage, the options as (section, flags, paragraphs), and the notes below them."""
    lines = text.splitlines()
    usage = next(i for i, line in enumerate(lines) if line.startswith("Usage:"))
    about = paragraphs(lines[:usage])
    section, entries, notes = "", [], []
    for line in lines[usage + 1:]:
        heading = re.match(r"^(\S[^:]*):$", line)
        entry = ARGUMENT.match(line) if section == "Arguments" else OPTION.match(line)
        if heading:
            section = heading[1]
        elif line and not line.startswith(" "):
            section = ""
            notes.append(line)
        elif section and section != "Commands" and entry:
            entries.append((section, entry[1], [entry[2] or ""]))
        elif entries and section and section != "Commands":
            entries[-1][2].append(line)
        elif notes and line.strip():
            notes.append(line)
    return about, lines[usage].split(":", 1)[1].strip(), [(s, f, paragraphs(d)) for s, f, d in entries], paragraphs(notes)


def default_of(text):
    """Splits `[default: ...]` and the like, which may hold brackets, off a description."""
    found = re.search(r"\[default: ((?:[^\[\]]|\[[^\]]*\])*)\]", text)
    return (tidy(text.replace(found[0], "")), found[1]) if found else (tidy(text), "")


def tidy(text):
    return re.sub(r" +([;,.:])", r"\1", re.sub(r" {2,}", " ", text)).strip()


def escape(text):
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;").strip()


def code(flags):
    return f"`{flags}`".replace("|", "\\|")


def meaning(description):
    """One table cell from the paragraphs of an option."""
    text, values = [], []
    for part in description:
        if part == "Possible values:":
            continue
        (values if part.startswith("- ") else text).append(part)
    whole, default = default_of(" ".join(text))
    pieces = re.split(r"(`[^`]*`)", whole)
    cell = "".join(p.replace("|", "\\|") if p.startswith("`") else escape_piece(p) for p in pieces).strip()
    if values:
        named = (re.match(r"- ([\w-]+):\s*(.*)", v) for v in values)
        cell += "<br>" + "<br>".join(f"`{m[1]}`: {escape(m[2])}" for m in named if m)
    return cell, default


def escape_piece(text):
    return text.replace("|", "\\|").replace("<", "&lt;")


def table(entries):
    lines = ["| option | meaning | default |", "| --- | --- | --- |"]
    for flags, description in entries:
        cell, default = meaning(description)
        lines.append(f"| {code(flags)} | {cell} | {escape_piece(default)} |")
    return lines


def sections(entries):
    """The tables of a command, one for each section of its help."""
    lines, names = [], []
    for section, _, _ in entries:
        if section not in names:
            names.append(section)
    for name in names:
        rows = [(flags, text) for section, flags, text in entries if section == name]
        lines += ([f"**{name}**", ""] if len(names) > 1 else []) + table(rows) + [""]
    return lines


def flag(flags):
    return re.search(r"--[\w-]+", flags)[0] if "--" in flags else flags


def commands(binary, *path):
    """The subcommands of a command, in the order of its help."""
    lines, found, inside = run(binary, *path, "--help").splitlines(), [], False
    for line in lines:
        if line.endswith(":") and not line.startswith(" "):
            inside = line == "Commands:"
        elif inside and (match := re.match(r"^ {2}(\w[\w-]*)  ", line)) and match[1] != "help":
            found.append([*path, match[1]])
    return found


def one_command(binary, path, train):
    about, usage, entries, notes = parse_help(run(binary, *path, "--help"))
    entries = [e for e in entries if not e[1].startswith(GLOBAL)]
    name = " ".join(path)
    lines = [f"## {name}", "", *[f"{escape_piece(a)}\n" for a in about], f"```text\n{usage}\n```", ""]
    if name in LIKE_TRAIN:
        known = {flag(f): text for _, f, text in train}
        shown = [e for e in entries if known.get(flag(e[1])) != e[2]]
        missing = sorted(set(known) - {flag(f) for _, f, _ in entries})
        lines += ["Takes the options of [`train`](#train), with these of its own or with another default:", ""]
        lines += sections(shown)
        if missing:
            lines += ["Without: " + ", ".join(f"`{m}`" for m in missing) + ".", ""]
    elif entries:
        lines += sections(entries)
    return lines + [f"{escape_piece(note)}\n" for note in notes]


def cli(binary):
    train = [e for e in parse_help(run(binary, "train", "--help"))[2] if not e[1].startswith(GLOBAL)]
    lines = []
    for path in commands(binary):
        below = commands(binary, *path)
        for each in below or [path]:
            lines += one_command(binary, each, train)
    return "\n".join(lines).rstrip()


def options(binary):
    return "```toml\n" + run(binary, "train", "--print-config").strip() + "\n```"


def recipes(binary):
    """One row for each model: its presets, and the numbers of its `etpp` recipe."""
    listed = json.loads(run(binary, "recipes", "--json"))
    presets = ("etpp-replay", "etpp", "et", "half-96", "half-128", "progressive", "short", "baseline")
    models = {}
    for recipe in listed:
        preset = next(p for p in presets if recipe["name"].endswith("-" + p))
        models.setdefault(recipe["name"][: -len(preset) - 1], {})[preset] = recipe
    lines = ["| model | origin of `etpp` | optimizer | lr, at batch | weight decay | stage sizes | also |", "| --- " * 7 + "|"]
    for model, of in models.items():
        lines.append(recipe_row(model, of))
    return "\n".join(lines)


def recipe_row(model, of):
    etpp = of["etpp"]
    sizes = []
    for stage in etpp["curriculum"]["stages"]:
        if stage["size"] not in sizes:
            sizes.append(stage["size"])
    optimizer = etpp["optimizer"]
    decay = optimizer["weight_decay"]
    also = "`etpp-replay`" if "etpp-replay" in of else ""
    cells = [f"`{model}`", ORIGINS.get(etpp["origin"], etpp["origin"]), optimizer["kind"],
             f"{optimizer['lr']:g}, {optimizer['reference_batch']}", f"{decay:g}", ", ".join(map(str, sizes)), also]
    return "| " + " | ".join(map(str, cells)) + " |"


ORIGINS = {"authors-launcher": "authors' launcher", "ours": "this project", "paper": "a paper"}


def models(binary):
    listed = json.loads(run(binary, "models", "--json"))
    lines = ["| model | family | parameters (M) | GMACs | activations (MiB per image) |", "| --- | --- | ---: | ---: | ---: |"]
    for m in listed:
        lines.append(model_row(m))
    return "\n".join(lines)


def model_row(m):
    return (f"| `{m['name']}` | {m['family']} | {m['params'] / 1e6:.2f} | {m['macs'] / 1e9:.3f} "
            f"| {m['activation_bytes'] / 2**20:.1f} |")


PARTS = {"cli": cli, "options": options, "recipes": recipes, "models": models}


def main():
    binary, check = sys.argv[1], "--check" in sys.argv[2:]
    stale = []
    for page in sorted(DOCS.glob("*.md")):
        text = old = page.read_text()
        for name, make in PARTS.items():
            begin, end = f"<!-- generated: {name} -->\n", f"<!-- end of generated: {name} -->"
            if begin in text:
                head, rest = text.split(begin)
                text = head + begin + make(binary) + "\n" + end + rest.split(end)[1]
        if text != old:
            stale.append(page.name)
            if not check:
                page.write_text(text)
    if check and stale:
        sys.exit(f"out of date: {', '.join(stale)}; run `python3 bench/scripts/docs_reference.py BINARY`")
    print("up to date" if not stale else "written: " + ", ".join(stale))


if __name__ == "__main__":
    main()
