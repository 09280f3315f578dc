"""The command line: thin commands that parse, call the library, and print.

Results go to stdout; progress, notes, warnings and errors to stderr. Modules are imported when their command runs,
and torch only inside functions, so that `--help` is quick.
"""
