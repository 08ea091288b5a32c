"""`python -m lora_lab.cli` does what `lora-lab` does."""

from lora_lab.cli.main import main

raise SystemExit(main())
