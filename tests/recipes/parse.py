"""Reads a Dart file with a grammar of Dart and names the first place that is none."""

import sys

import tree_sitter_dart
from tree_sitter import Language, Parser


def errors(node):
    if node.is_error or node.is_missing:
        yield node
    for child in node.children if node.has_error else ():
        yield from errors(child)


text = open(sys.argv[1], "rb").read()
tree = Parser(Language(tree_sitter_dart.language())).parse(text)
for wrong in errors(tree.root_node):
    line, column = wrong.start_point
    sys.exit(f"{sys.argv[1]}:{line + 1}:{column + 1}: no Dart: {wrong.text.decode()[:80]!r}")
