"""Takes the place of matplotlib in a Python without it: everything can be imported and called."""

import importlib.machinery
import sys
import types


class Nothing:
    """A figure that is not drawn, and everything that belongs to it."""

    def __call__(self, *_, **__):
        return self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, _):
        return self

    def __setitem__(self, *_):
        pass

    def __iter__(self):
        return iter([self] * 9)


class Mock:
    """Finds matplotlib, in which everything is :class:`Nothing`."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "matplotlib":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = Nothing().__getattr__
        return module

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Mock())
