"""A whole site, built once for all tests of the build."""

from __future__ import annotations

from pathlib import Path

import pytest

from build_tools.site import build_site


@pytest.fixture(scope="session")
def added_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "own"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"):
        (folder / name).write_text(name)
    (folder / "pytorch_model.bin").write_text("not for the site")
    return folder


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory, added_model: Path) -> Path:
    """A whole site without the built-in model, which the test tier `browser` looks at."""
    folder = tmp_path_factory.mktemp("site") / "dist"
    build_site(folder, with_model=False, added_models=[("own", added_model)])
    return folder
