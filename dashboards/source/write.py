"""Writes each dashboard into its file, or checks that the file is what would be written."""

import sys
from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).parent.parent
NAMES = ["overview", "matchmaking", "calls", "endurance", "node", "load_test", "transcription", "cluster"]

wanted = {FOLDER / f"{name.replace('_', '-')}.json": import_module(name).JSON for name in NAMES}
if "--check" not in sys.argv:
    for path, text in wanted.items():
        path.write_text(text)
wrong = [path.name for path, text in wanted.items() if not path.exists() or path.read_text() != text]
wrong += [path.name for path in FOLDER.glob("*.json") if path not in wanted]
if wrong:
    sys.exit(f"not what dashboards/generate writes: {', '.join(sorted(wrong))}")
