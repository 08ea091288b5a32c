"""`lora-lab push`: an adapter to the hub, by way of huggingface_hub: the token and HF_ENDPOINT are the person's own.

What is pushed is what `lora-lab export --to peft` writes: PEFT's files with card, record and chat template.
"""

from __future__ import annotations

import argparse

from lora_lab.cli.export import going_of
from lora_lab.cli.hub import telling
from lora_lab.cli.interrupt import interrupts
from lora_lab.cli.models import FoundModel, find_model
from lora_lab.cli.terminal import run_interruptible, say
from lora_lab.errors import HubError
from lora_lab.export import open_base, plan_export
from lora_lab.formats.hub_names import HubName


def push(options: argparse.Namespace) -> int:
    """Make the repository if there is none, and put the adapter's files there in one commit."""
    files = run_interruptible(_files(options, find_model(options.model)))
    from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token

    if get_token() is None:
        raise HubError(
            "no token for the hub is on this machine; `hf auth login` keeps one, or HF_TOKEN holds it. It must be "
            "allowed to write", "gated"
        )  # fmt: skip
    interrupts.check()
    api, name = HfApi(library_name="lora-lab"), HubName(options.repository, None, options.revision)
    with telling(name):
        api.create_repo(options.repository, private=options.private, exist_ok=True)
        additions = [CommitOperationAdd(path, content) for path, content in files.items()]
        done = api.create_commit(
            options.repository, additions, commit_message=options.message, revision=options.revision
        )
    say(f"{len(files)} files, {sum(map(len, files.values())) / 1e6:,.1f} MB")
    print(done.commit_url or f"{constants.ENDPOINT}/{options.repository}")
    return 0


async def _files(options: argparse.Namespace, found: FoundModel) -> dict[str, bytes]:
    base = await open_base(found.sources)
    planned = await plan_export(base, await going_of(options, base, found), "peft")
    return {file.name: b"".join([piece async for piece in file.pieces()]) for file in planned.files}
