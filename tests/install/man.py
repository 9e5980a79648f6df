#!/usr/bin/env python3
"""man.py [--cc CC] [--installed PREFIX] [--run LIBRARY [--link FLAG]... --work DIRECTORY]: documentation that is true.

Without --installed and --run, the pages of docs/man and the guides against the public headers:
- every function that a header declares, and every function-like macro, stands in the NAME of one page of section 3
- the SYNOPSIS of that page has the header's prototype; a macro's arguments have the header's names
- every error code that the header's comment on a function names stands in that page's ERRORS, with a cause (but for
  SPOKEN_OF, below)
- every function that returns a code has -EPERM: after fork (the first comment of runtime.h)
- what of io.h may wait has the codes that the header's first comment gives for all of it
- every function and macro is used in the EXAMPLES of its page
- every constant, and every field of a struct that users fill or read, stands in some page
- each page has its sections in order and says whether it waits, who may call it and whose the memory is
- each .Xr of ours names a page; each name of ours in backquotes in a guide is one
- EXAMPLES, and ```c and ```c run blocks of the guides and the README, compile as C11 without a warning, each by itself;
  ```c fragment blocks are compiled inside a function, see FRAGMENT below
- links between the guides lead somewhere, their lines have at most 150 columns

--installed PREFIX: each name is a page of the installed tree, a real one or a link to one.
--run LIBRARY: examples after a line `.\\" run`, and the guides' ```c run blocks, are linked and run; they must end by
themselves with 0.
"""
import argparse
import concurrent.futures
import dataclasses
import errno
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
INCLUDE = ROOT / "include"
MAN = ROOT / "docs" / "man"
SECTIONS = ("NAME", "LIBRARY", "SYNOPSIS", "DESCRIPTION", "IMPLEMENTATION NOTES", "RETURN VALUES", "ENVIRONMENT",
            "EXAMPLES", "ERRORS", "SEE ALSO")
OPTIONAL = ("IMPLEMENTATION NOTES", "ENVIRONMENT")
QUESTIONS = ("Waits", "Callers", "Memory")
NO_NAMES = {"STEL_BEGIN_DECLS", "STEL_END_DECLS", "STEL_API", "STEL_MUST_CHECK", "STEL_NORETURN"}
NO_LINE_LIMIT = {"requirements.md", "decisions.md", "backends-table.md"}  # tables of another kind
# Codes that a header's comment names although this function does not return them.
SPOKEN_OF = {
    "stel_strerror": {"STEL_EAI"}, "STEL_EAI": {"STEL_EAI"},  # any code
    "stel_select": {"EPIPE"},  # the outcome of a case
    "stel_cancel": {"ECANCELED"}, "stel_spawn_after": {"ECANCELED"},  # another fiber's
    "stel_timed_out": {"ETIMEDOUT"},
    "stel_runtime_stop": {"ESHUTDOWN"}, "stel_runtime_restart": {"ESHUTDOWN"},  # what others are told
}
PROGRAM_SECONDS = 60
RETURNS_A_CODE = re.compile(r"(?:int|ssize_t|pid_t) stel_")  # all of these return -EPERM in the child of a fork
FRAGMENT = """
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <stellane/stellane.h>
int work(void *arg); /* what every fragment may use */
extern stel_mutex lock;
extern int fd, listener, rc;
extern char buffer[4096];
extern size_t bytes;
int fragment(void *arg);
int fragment(void *arg) {
    (void)arg;
#line 1
%s
    return 0;
}
"""

complaints = []


def complain(place, text):
    complaints.append(f"{place}: {text}")


def normal(text):
    """C without the freedom of white space."""
    return " ".join(re.findall(r"\w+|[^\w\s]", text))


# ---- headers ----

@dataclasses.dataclass
class Name:
    name: str
    header: str
    prototype: str = ""  # of a function
    arguments: tuple = ()  # of a macro
    codes: frozenset = frozenset()  # named by the comment above it


def codes_in(text):
    codes = {code for code in re.findall(r"(?<![\w)])-(E[A-Z0-9]+)\b", text) if hasattr(errno, code)}
    return frozenset(codes | ({"STEL_EAI"} if "STEL_EAI" in text else set()))


def function_in(declaration):
    """(name, normalised prototype) of a declaration or the head of an inline definition, without what is no C type."""
    text = re.sub(r"\b(?:STEL_API|STEL_MUST_CHECK|STEL_NORETURN|static|inline)\b", " ", declaration)
    match = re.search(r"\b(stel_[a-z]\w*)\s*\(", text)
    return (match.group(1), normal(text)) if match else None


def read_header(path):
    """Names of one header, in its order; each knows the codes of the comment above it."""
    names, codes, about_all = [], frozenset(), None
    text = path.read_text()
    pattern = re.compile(r"""^/\*(?P<comment>.*?)\*/
                           | ^\#[ \t]*define[ \t]+(?P<macro>(?:STEL|stel)_[A-Za-z]\w*)(?P<arguments>\([^)]*\))
                           | ^(?P<function>(?:STEL_API|static[ ]inline)\b[^;{]*)[;{]""", re.M | re.S | re.X)
    for match in pattern.finditer(text):
        if match["comment"] is not None:
            comment = re.sub(r"\n \*", "\n", match["comment"])
            codes = codes_in(comment)
            if about_all is None:
                about_all = codes
                codes = about_all if path.name == "io.h" else frozenset()
            elif text.startswith("\n\n", match.end()):  # stands by itself
                codes = frozenset()
            elif path.name == "io.h" and not re.search(r"[Nn]ever\s+waits?\b", comment):
                codes |= about_all
        elif match["macro"]:
            arguments = tuple(re.findall(r"\w+", match["arguments"]))
            names.append(Name(match["macro"], path.name, arguments=arguments, codes=codes))
        elif found := function_in(match["function"]):
            own = codes if re.search(r"\bint (?:\w+_)?fd\b", found[1]) else codes - {"EBADF"}
            if RETURNS_A_CODE.match(found[1]):
                own |= {"EPERM"}
            names.append(Name(found[0], path.name, prototype=found[1], codes=own))
    return names


def constants_in(text):
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    found = set(re.findall(r"^#[ \t]*define[ \t]+(STEL_[A-Z]\w*)(?![\w(])", text, re.M))
    for body in re.findall(r"\benum\b[^{;]*\{(.*?)\}", text, re.S):
        found |= set(re.findall(r"\b(STEL_[A-Z]\w*)\s*=", body))
    return {name for name in found if not name.startswith("STEL__")} - NO_NAMES


def fields_in(text):
    """{struct: its fields} for structs that are more than a place to lie in."""
    structs = {}
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    for name, body in re.findall(r"typedef struct (stel_\w+) \{(.*?)\}\s*\1;", text, re.S):
        fields = set()
        for member in body.split(";"):
            if pointer := re.search(r"\(\*\s*(\w+)\)", member):
                fields.add(pointer.group(1))
            elif member.strip():
                parts = re.sub(r"\[[^]]*\]", "", member).split(",")
                fields |= {re.findall(r"\w+", part)[-1] for part in parts}
        if "opaque" not in fields:
            structs[name] = fields
    return structs


# ---- pages ----

def words_of(line):
    """The arguments of an mdoc macro line."""
    return [quoted if quoted is not None else bare
            for quoted, bare in ((m[1], m[2]) for m in re.finditer(r'"([^"]*)"|(\S+)', line))]


def plain(line):
    """The text of a literal line."""
    return re.sub(r"^\\&", "", line).replace("\\e", "\\").replace("\\-", "-")


class Page:
    def __init__(self, path):
        self.path = path
        self.text = path.read_text()
        self.sections, self.order = {}, []
        for line in self.text.splitlines():
            if line.startswith(".Sh "):
                self.order.append(line[4:])
                self.sections[line[4:]] = []
            elif self.order:
                self.sections[self.order[-1]].append(line)
        self.names = [words_of(line)[1] for line in self.section("NAME") if line.startswith(".Nm ")]
        self.functions, self.macros = self.synopsis()
        self.errors = self.causes()
        self.examples = self.programs()

    def section(self, name):
        return self.sections.get(name, [])

    def synopsis(self):
        functions, macros, result, name, arguments = {}, {}, None, None, []
        for line in self.section("SYNOPSIS"):
            words = words_of(line)
            if line.startswith(".Ft "):
                result = " ".join(words[1:])
                continue
            if line.startswith(".Fa ") and name:
                arguments += words[1:]
                continue
            if line.startswith(".Fo "):
                name, arguments = words[1], []
                continue
            if line.startswith(".Fn "):
                name, arguments = words[1], [word for word in words[2:] if word not in (";", ",")]
            elif not line.startswith(".Fc"):
                continue
            if result is None:
                macros[name] = tuple(re.findall(r"\w+", argument)[-1] for argument in arguments)
            else:
                functions[name] = normal(f"{result} {name}({', '.join(arguments)})")
            result, name = None, None
        return functions, macros

    def causes(self):
        """{code: the words of its entry}"""
        causes, codes = {}, []
        for line in self.section("ERRORS"):
            if line.startswith(".It "):
                codes = re.findall(r"-(E[A-Z0-9]+)\b", line) + (["STEL_EAI"] if "STEL_EAI" in line else [])
                for code in codes:
                    if code in causes:
                        complain(self.path.name, f"{code} stands in ERRORS twice")
                    causes[code] = []
            elif line.startswith((".Bl", ".El")):
                codes = []
            else:
                for code in codes:
                    causes[code] += [word for word in words_of(line) if not word.startswith(".")]
        return causes

    def programs(self):
        """(text, is it to be run) of each display in EXAMPLES."""
        programs, lines, run = [], None, False
        for line in self.section("EXAMPLES"):
            if line.startswith(".Bd"):
                lines = []
            elif line.startswith(".Ed"):
                programs.append(("\n".join(lines) + "\n", run))
                lines, run = None, False
            elif lines is not None:
                lines.append(plain(line))
            elif line.startswith('.\\" run'):
                run = True
        return programs


def check_form(page):
    place = page.path.name
    wanted = [name for name in SECTIONS if name in page.order]
    if wanted != page.order:
        complain(place, f"sections should be in this order: {', '.join(wanted)}")
    if not page.examples:
        complain(place, "no EXAMPLES")
    for code in page.errors:
        if code != "STEL_EAI" and not hasattr(errno, code):
            complain(place, f"there is no {code}")
    if page.path.suffix != ".3":
        return
    for name in set(SECTIONS) - set(OPTIONAL) - set(page.order):
        complain(place, f"no {name}")
    for question in QUESTIONS:
        if f".It {question}" not in page.section("DESCRIPTION"):
            complain(place, f"DESCRIPTION does not say: {question}")
    for code, words in page.errors.items():
        if len(words) < 3:
            complain(place, f"ERRORS gives no cause for {code}")
    if not page.errors and page.section("ERRORS") != ["None."]:
        complain(place, "ERRORS lists nothing; then it says: None.")


def check_name(name, page):
    place = page.path.name
    if name.prototype:
        given = page.functions.get(name.name)
        if given is None:
            complain(place, f"SYNOPSIS lacks {name.name}")
        elif given != name.prototype:
            complain(place, f"SYNOPSIS: {given}\n    {name.header}: {name.prototype}")
    elif page.macros.get(name.name) != name.arguments:
        complain(place, f"SYNOPSIS: {name.name}{page.macros.get(name.name)}, {name.header}: {name.arguments}")
    for code in sorted(name.codes - page.errors.keys() - SPOKEN_OF.get(name.name, set())):
        complain(place, f"ERRORS lacks {code}, which {name.header} names for {name.name}")
    if not any(re.search(rf"\b{name.name}\s*\(", text) for text, _ in page.examples):
        complain(place, f"no example uses {name.name}")


def check_pages(pages, names, headers):
    home, known = {}, {name.name: name for name in names}
    for page in pages:
        check_form(page)
        for name in page.names:
            if page.path.suffix == ".3":
                if name in home:
                    complain(page.path.name, f"{name} has a page already: {home[name].path.name}")
                home[name] = page
                if name not in known:
                    complain(page.path.name, f"no header declares {name}")
        for extra in (page.functions.keys() | page.macros.keys()) - set(page.names):
            complain(page.path.name, f"SYNOPSIS has {extra}, NAME does not")
    for name in names:
        if name.name in home:
            check_name(name, home[name.name])
        else:
            complain("docs/man", f"no page has {name.name} ({name.header})")
    targets = {(name, "3") for name in home} | {(page.path.stem, page.path.suffix[1:]) for page in pages}
    for page in pages:
        for target in re.findall(r"\bXr (\S+) (\d)", page.text):
            if target[0].lower().startswith("stel") and target not in targets:
                complain(page.path.name, f".Xr to {target[0]}({target[1]}), which there is not")
    everything = "\n".join(page.text for page in pages)
    words = set(re.findall(r"\w+", everything))
    for header in headers:
        for constant in sorted(constants_in(header.read_text()) - words):
            complain("docs/man", f"no page names {constant} ({header.name})")
    for header in headers:
        for struct, fields in fields_in(header.read_text()).items():
            if struct == "stel_shield":  # a value that is handed back as it came
                continue
            texts = [page.text for page in pages if re.search(rf"\b{struct}\b", page.text)]
            for field in sorted(fields - {"reserved", "reserved0"}):
                if not any(re.search(rf"\b{field}\b", text) for text in texts):
                    complain("docs/man", f"no page that names {struct} names its field {field}")
    return home


# ---- guides ----

def guides():
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks_of(path):
    """(line, kind, text) of each fenced block of C."""
    blocks, start, kind, lines = [], 0, None, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if kind is None and line.startswith("```"):
            start, kind, lines = number, line[3:].strip(), []
        elif kind is not None and line.startswith("```"):
            if kind.split(" ")[0] == "c":
                blocks.append((start, kind, "\n".join(lines) + "\n"))
            kind = None
        elif kind is not None:
            lines.append(line)
    if kind is not None:
        complain(path.name, f"the block that begins in line {start} does not end")
    return blocks


def check_guide(path, known):
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
            complain(path.name, f"a link to {target}, which there is not")
    if path.name in NO_LINE_LIMIT or path.name == "README.md":
        return
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > 150:
            complain(f"{path.name}:{number}", f"{len(line)} columns")
    outside = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    for name in sorted(set(re.findall(r"`(stel_\w+|STEL_\w+)(?:\(|`)", outside)) - known):
        complain(path.name, f"`{name}` is nothing of the headers")


# ---- compiling and running ----

def sources(pages):
    """(place, text, is it to be run) of everything that must compile."""
    for page in pages:
        for number, (text, run) in enumerate(page.examples, 1):
            yield f"{page.path.name}, example {number}", text, run
    for path in guides():
        for line, kind, text in blocks_of(path):
            if kind == "c fragment":
                yield f"{path.name}:{line}", FRAGMENT % text, False
            elif kind in ("c", "c run"):
                yield f"{path.name}:{line}", text, kind == "c run"
            else:
                complain(f"{path.name}:{line}", f"a block of C is ```c, ```c run or ```c fragment, not ```{kind}")


def compile_all(cc, pages):
    with tempfile.TemporaryDirectory() as work, concurrent.futures.ThreadPoolExecutor(2) as pool:
        def compile_one(job):
            number, (place, text, _) = job
            source = pathlib.Path(work) / f"{number}.c"
            source.write_text(text)
            done = subprocess.run([cc, "-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", f"-I{INCLUDE}", "-S", "-o",
                                   f"{work}/{number}.s", source], capture_output=True, text=True)
            return place, done.returncode, done.stderr.replace(f"{work}/", "")
        results = list(pool.map(compile_one, enumerate(sources(pages))))
    for place, code, words in results:
        if code:
            complain(place, "does not compile\n" + words.rstrip())
    return len(results)


def run_all(cc, library, link, work, pages):
    work.mkdir(parents=True, exist_ok=True)
    jobs = [(number, place, text) for number, (place, text, run) in enumerate(sources(pages)) if run]

    def run_one(job):
        number, place, text = job
        source, program = work / f"{number}.c", work / f"{number}"
        source.write_text(text)
        built = subprocess.run([cc, "-std=c11", "-O1", "-fstack-clash-protection", f"-I{INCLUDE}", source, library,
                                *link, "-o", program], capture_output=True, text=True)
        if built.returncode:
            return place, "does not link\n" + built.stderr.rstrip()
        try:
            done = subprocess.run([program], capture_output=True, text=True, timeout=PROGRAM_SECONDS,
                                  stdin=subprocess.DEVNULL, cwd=work)
        except subprocess.TimeoutExpired:
            return place, f"has not ended within {PROGRAM_SECONDS} s"
        return place, f"ended with {done.returncode}\n{done.stderr.rstrip()}" if done.returncode else ""

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for place, words in pool.map(run_one, jobs):
            if words:
                complain(place, words)
    return len(jobs)


def check_installed(prefix, names, pages):
    found = {}
    for path in prefix.rglob("man/man[37]/*"):
        found[path.name] = path
    for page in pages:
        if page.path.name not in found:
            complain(prefix, f"lacks {page.path.name}")
    for name in names:
        path = found.get(f"{name.name}.3")
        if path is None:
            complain(prefix, f"no page {name.name}.3")
            continue
        link = re.match(r"\.so (man3/(\S+))\n", path.read_text())
        if link and link.group(2) not in found:
            complain(prefix, f"{name.name}.3 leads to {link.group(1)}, which there is not")
            continue
        text = found[link.group(2)].read_text() if link else path.read_text()
        if not re.search(rf"^\.Nm {name.name}\b", text, re.M):
            complain(prefix, f"{name.name}.3 is a page without {name.name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--installed", type=pathlib.Path)
    parser.add_argument("--run", metavar="LIBRARY")
    parser.add_argument("--link", action="append", default=[])
    parser.add_argument("--work", type=pathlib.Path)
    options = parser.parse_args()
    headers = sorted((INCLUDE / "stellane").glob("*.h"))
    names = [name for header in headers for name in read_header(header)]
    pages = [Page(path) for path in sorted(MAN.glob("*.[37]"))]
    if len(names) < 100:
        sys.exit(f"man: only {len(names)} names found in {INCLUDE}: they cannot have been read right")
    if options.installed:
        check_installed(options.installed, names, pages)
        said = f"{len(names)} names installed"
    elif options.run:
        said = f"{run_all(options.cc, options.run, options.link, options.work, pages)} programs run"
    else:
        check_pages(pages, names, headers)
        known = {name.name for name in names}
        for header in headers:
            known |= set(re.findall(r"\b(?:stel|STEL)_\w+", header.read_text()))
        for path in guides():
            check_guide(path, known)
        said = f"{len(pages)} pages, {len(names)} names, {compile_all(options.cc, pages)} pieces of C"
    for text in complaints:
        print(text)
    print(f"man: {said}" + (f", {len(complaints)} complaints" if complaints else ""))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
