"""Where things lie in the checkout, wherever a test is."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
CONF = ROOT / "conf"
REFERENCES = ROOT / "tests" / "reference"
