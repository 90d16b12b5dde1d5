"""Holds the scenario files that are shipped, and some wrong ones, against the JSON schema of scenario files."""

import json
import pathlib
import sys
import tomllib

import jsonschema

SCENARIOS = pathlib.Path(__file__).parent.parent / "loadtest" / "scenarios"
PHASE = '[[phase]]\nduration = "1s"\nusers = 2\n'
WRONG = [
    PHASE,
    'name = "no phase"',
    'name = "unknown"\nusers = 3\n' + PHASE,
    'name = "no load"\n[[phase]]\nduration = "1s"\n',
    'name = "two loads"\n' + PHASE + "arrival_rate = 3\n",
    'name = "unknown step"\n' + PHASE + '[[flow]]\nname = "a"\nsteps = ["conect"]\n',
    'name = "unknown key"\n' + PHASE + '[[flow]]\nname = "a"\nsteps = [{ think = "1s", evry = "1s" }]\n',
    'name = "too small"\n' + PHASE + '[message.a]\ntext = "a"\nsize = 3\n',
]

schema = json.loads((SCENARIOS / "schema.json").read_text())
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
failures = []
files = sorted(SCENARIOS.glob("*.toml"))
for file in files:
    errors = validator.iter_errors(tomllib.loads(file.read_text()))
    failures += [f"{file.name}: {error.json_path}: {error.message}" for error in errors]
failures += [f"the schema allows:\n{text}" for text in WRONG if validator.is_valid(tomllib.loads(text))]
if failures or not files:
    sys.exit("\n".join(failures) or f"no scenarios in {SCENARIOS}")
print(f"{len(files)} scenario files fit their schema")
