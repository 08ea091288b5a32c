"""The parts of build.py, in the order in which a build needs them:

base (files and messages) -> environment (Python and npm packages) -> fetch (downloads) -> parts (what, from where)
-> site (dist/) -> server, testing.

Only the standard library is imported at the top of any of them: build.py starts before its environment exists.
"""
