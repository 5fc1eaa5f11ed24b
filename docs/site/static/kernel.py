"""Runs the cells of a page, inside the page's Python (worker.js). What it says, it says in lines
of JSON on the standard output."""

import ast
import io
import json
import linecache
import os
import sys
import traceback
import types

sys.path.insert(0, "/library")
os.makedirs("/home/student", exist_ok=True)
os.chdir("/home/student")

MOST = 100_000  # characters that a cell may print: a loop without end must not fill the page
space = {"__name__": "__main__"}
printed = 0


def say(**what):
    """A line for worker.js."""
    sys.__stdout__.write(json.dumps(what) + "\n")
    sys.__stdout__.flush()


class Printed(io.TextIOBase):
    """Takes the place of the standard output while a cell runs."""

    def writable(self):
        return True

    def write(self, text):
        global printed
        if printed < MOST <= printed + len(text):
            say(text=text[: MOST - printed] + "\n(what follows is not shown)\n")
        elif printed < MOST:
            say(text=text)
        printed += len(text)
        return len(text)


def display(*values, metadata=None, raw=False):
    """What the library and a notebook know as IPython's display."""
    for value in values:
        if raw:
            say(data=value, metadata=metadata or {})
        elif hasattr(value, "sentence"):  # a reply to an exercise
            say(sentence=value.sentence)
        elif hasattr(value, "_repr_html_"):
            say(data={"text/html": value._repr_html_(), "text/plain": repr(value)}, metadata={})
        else:
            say(data={"text/plain": repr(value)}, metadata={})


def run(number, code):
    """Run a cell, show the value of its last line, and say that it has ended, and how."""
    global printed
    printed = 0
    name = f"cell {number}"
    # so that an error shows the line that raised it
    linecache.cache[name] = len(code), None, code.splitlines(keepends=True), name
    before = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = Printed()
    error = None
    try:
        body = ast.parse(code, name).body
        last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), name, "exec"), space)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), name, "eval"), space)
            if value is not None:
                display(value)
    except BaseException as raised:
        # of the traceback, what is below this file; nothing of what reads the code
        trace = None if isinstance(raised, SyntaxError) else raised.__traceback__.tb_next
        error = "".join(traceback.format_exception(type(raised), raised, trace))
    finally:
        sys.stdout, sys.stderr = before
    say(done=True, error=error, progress=progress())


def progress():
    """The course's progress, as the file holds it that notebooks use; None without one."""
    try:
        with open(".tinyshuffle-course.json", encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None


ipython = types.ModuleType("IPython")
ipython.display = types.ModuleType("IPython.display")
ipython.display.display = display
sys.modules |= {"IPython": ipython, "IPython.display": ipython.display}
