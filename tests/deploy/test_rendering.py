"""The chart renders, alike with both Helms, to what is written down in golden/."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from chart import CASES, CHART, HELMS, HERE, ROOT, helm, rendered, values


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("major", HELMS)
def test_lint_finds_nothing(major, case):
    done = helm(major, "lint", "--strict", str(CHART), "--values", str(values(case)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout, done.stdout


# What is written down in whole; the other cases are held by assertions, in test_setups.py.
GOLDEN = ("default", "extras", "fleet", "gateway", "trial", "trust")


@pytest.mark.parametrize("case", GOLDEN)
def test_what_is_rendered_is_what_is_written_down(case):
    """But for alerts and dashboard, which are files of their own."""
    golden = HERE / f"golden/{case}.yaml"
    shown = re.sub(r"(hallway\.json: \|\n)(    .*\n)+", r"\1", re.sub(r"(\n  groups:\n)(  [- ] .*\n)+", r"\1", rendered(3, case)))
    fresh = "".join(line.rstrip() + "\n" for line in shown.splitlines())
    if os.environ.get("GOLDEN") == "write":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(fresh)
    advice = "look at the difference; if it is meant: GOLDEN=write tests/deploy/.venv/bin/pytest tests/deploy"
    assert golden.exists() and golden.read_text() == fresh, advice


@pytest.mark.parametrize("case", CASES)
def test_both_helms_render_the_same(case):
    three, four = (list(filter(None, yaml.safe_load_all(rendered(major, case)))) for major in HELMS)
    assert three == four


def test_there_is_no_golden_file_of_a_case_that_is_gone():
    assert sorted(path.stem for path in (HERE / "golden").glob("*.yaml")) == list(GOLDEN)
    assert set(GOLDEN) < set(CASES)


def test_the_readme_of_the_chart_is_fresh():
    done = subprocess.run([sys.executable, ROOT / "helm/readme", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def paths(table, lead=()):
    """The path of every key that is no free table."""
    for key, value in table.items():
        yield lead + (key,)
        if isinstance(value, dict):
            yield from paths(value, lead + (key,))


def schema_paths(schema, lead=()):
    for key, inner in schema.get("properties", {}).items():
        yield lead + (key,)
        if inner.get("properties"):
            assert inner["additionalProperties"] is False, f"{'.'.join(lead + (key,))} takes anything"
            yield from schema_paths(inner, lead + (key,))


# What a chart gives that this one is part of.
FOREIGN = {("global",), ("enabled",)}


def test_schema_and_values_have_the_same_keys():
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert schema["additionalProperties"] is False
    known = set(schema_paths(schema)) - FOREIGN - {("resources", "claims")}
    free = {path for path in known if not any(other[: len(path)] == path and other != path for other in known)}
    given = set(paths(yaml.safe_load((CHART / "values.yaml").read_text())))
    below_free = {path for path in given if any(path[:length] in free for length in range(1, len(path)))}
    assert given - below_free == known


def test_every_value_is_documented():
    readme = (CHART / "README.md").read_text()
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    known = set(schema_paths(schema)) - FOREIGN
    leaves = {path for path in known if not any(other[: len(path)] == path and other != path for other in known)}
    missing = [".".join(path) for path in leaves if f"| `{'.'.join(path)}` |" not in readme]
    whole = [path for path in missing if f"| `{path.split('.')[0]}` |" not in readme]
    assert whole == [], "say in values.yaml what they are for, then run helm/readme"
