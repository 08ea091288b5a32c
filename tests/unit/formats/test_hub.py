"""Names on the hub, what a repository holds, what is said when it does not; and the local hub that tests speak to."""

from __future__ import annotations

import http.client
import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from lora_lab.errors import HubError, ModelError
from lora_lab.formats import hub_words
from lora_lab.formats.hub import (
    STARTERS,
    UNREAD_FORMS,
    HubFile,
    HubModel,
    HubName,
    HubRepository,
    choose_model,
    file_path,
    is_hub_name,
    parse_hub_name,
    read_repository,
)
from lora_lab.formats.tensors import FORMS
from tests.hub_server import HubServer, Repository

SHA = "0123456789" * 4
HASH = "ab" * 32


def answer(*paths: str, sizes: dict[str, int] | None = None, **more: Any) -> dict[str, Any]:
    siblings = []
    for path in paths:
        size = (sizes or {}).get(path, 1000)
        entry: dict[str, Any] = {"rfilename": path, "size": size, "blobId": SHA}
        if path.endswith((".gguf", ".safetensors")):
            entry["lfs"] = {"sha256": HASH, "size": size, "pointerSize": 134}
        siblings.append(entry)
    return {"id": "owner/name", "sha": SHA, "gated": False, "cardData": {}, "siblings": siblings, **more}


def models(*paths: str, **more: Any) -> tuple[HubModel, ...]:
    return read_repository(answer(*paths, **more)).models


# ---------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf:owner/name", HubName("owner/name")),
        ("owner/name", HubName("owner/name")),
        (" hf:Qwen/Qwen3-0.6B-GGUF:Qwen3-0.6B-Q8_0.gguf\n", HubName("Qwen/Qwen3-0.6B-GGUF", "Qwen3-0.6B-Q8_0.gguf")),
        ("hf:a/b@v1.0", HubName("a/b", None, "v1.0")),
        ("hf:a/b@refs/pr/3:BF16/m-00001-of-00002.gguf", HubName("a/b", "BF16/m-00001-of-00002.gguf", "refs/pr/3")),
        ("hf:a/b:Q4_K_M", HubName("a/b", "Q4_K_M")),
        ("https://huggingface.co/a/b", HubName("a/b")),
        ("https://huggingface.co/a/b/", HubName("a/b")),
        ("hf.co/a/b", HubName("a/b")),
        ("https://huggingface.co/a/b/tree/main", HubName("a/b")),
        ("https://huggingface.co/a/b/tree/v2", HubName("a/b", None, "v2")),
        ("https://huggingface.co/a/b/blob/main/x%20y/m.gguf", HubName("a/b", "x y/m.gguf")),
        (
            "https://huggingface.co/a/b/resolve/refs%2Fpr%2F1/m.gguf?download=true",
            HubName("a/b", "m.gguf", "refs/pr/1"),
        ),
        ("https://huggingface.co/a/b?show_file_info=m-Q8_0.gguf", HubName("a/b", "m-Q8_0.gguf")),
    ],
)
def test_names(text: str, name: HubName) -> None:
    assert parse_hub_name(text) == name
    assert parse_hub_name(str(name)) == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no name"),
        ("hf:", "nothing is no OWNER/NAME"),
        ("hf:gpt2", "gpt2 is no OWNER/NAME"),
        ("hf:a/b/c", "a/b/c is no OWNER/NAME"),
        ("hf://a/b/c.gguf", "hf:// is not read"),
        ("hf:a/", "nothing is no name of a model"),
        ("hf:-a/b", "'-a' is no name of an owner"),
        ("hf:a/..", "'..' is no name of a model"),
        ("hf:a/b--c", "'b--c' is no name of a model"),
        ("hf:a/" + "b" * 97, "at most 96"),
        ("hf:a/b:", "nothing stands after the colon"),
        ("hf:a/b@:m.gguf", "nothing stands after the @"),
        ("hf:a/b@x y", "'x y' is no revision"),
        ("hf:a/b@../main", "'../main' is no revision"),
        ("hf:a/b:../m.gguf", "leaves its folder"),
        ("hf:a/b:/etc/passwd", "is not relative"),
        ("hf:a/b:C:/m.gguf", "is not relative"),
        ("hf:a/b:x\\m.gguf", "is not relative"),
        ("hf:a/b:x\x00.gguf", "cannot be printed"),
        ("https://example.org/a/b", "is not an address on huggingface.co"),
        ("https://huggingface.co.example.org/a/b", "is not an address on huggingface.co"),
        ("https://huggingface.co/datasets/a/b", "is under datasets/"),
        ("https://huggingface.co/a/b/discussions/3", "is another page"),
        ("https://huggingface.co/a/b/tree/main/onnx", "a folder's address"),
        ("https://huggingface.co/a", "a is no OWNER/NAME"),
    ],
)
def test_names_that_are_none(text: str, said: str) -> None:
    with pytest.raises(HubError, match=re.escape(said)) as caught:
        parse_hub_name(text)
    assert caught.value.reason == "name"
    assert isinstance(caught.value, ModelError)


def test_what_is_meant_as_a_name_on_the_hub() -> None:
    assert all(map(is_hub_name, ("hf:a/b", "hf:wrong", "https://huggingface.co/a/b", "hf.co/a/b")))
    assert not any(map(is_hub_name, ("a/b", "./hf.gguf", "hf.gguf", "https://example.org/a/b", "huggingface.com/a")))


def test_paths_on_the_hub() -> None:
    assert HubName("a/b").api_path == "/api/models/a/b?blobs=true"
    assert HubName("a/b", None, "refs/pr/1").api_path == "/api/models/a/b/revision/refs%2Fpr%2F1?blobs=true"
    assert file_path("a/b", SHA, "x y/m#1.gguf") == f"/a/b/resolve/{SHA}/x%20y/m%231.gguf"


# ---------------------------------------------------------------------------------------------------- repositories


def test_a_repository_of_gguf_files() -> None:
    sizes = {"m-Q8_0.gguf": 800, "m-Q4_K_M.gguf": 400, "sub/m-BF16-00001-of-00002.gguf": 900}
    paths = [*sizes, "sub/m-BF16-00002-of-00002.gguf", "README.md", "mmproj-m-f16.gguf", "m.imatrix.gguf", "plain.gguf"]
    card = {"license": "apache-2.0", "base_model": ["owner/base"]}
    repository = read_repository(answer(*paths, sizes=sizes, cardData=card, gated="manual"))
    assert (repository.name, repository.revision, repository.licence) == ("owner/name", SHA, "apache-2.0")
    assert (repository.gated, repository.base_model) == (True, "owner/base")
    assert [(model.title, model.form, model.size_bytes) for model in repository.models] == [
        ("m-Q4_K_M", "Q4_K_M", 400),
        ("m-Q8_0", "Q8_0", 800),
        ("plain", "", 1000),
        ("sub/m-BF16", "BF16", 1900),
    ]
    assert repository.models[0].files == (HubFile("m-Q4_K_M.gguf", 400, HASH),)
    assert [file.path[-19:-5] for file in repository.models[3].files] == ["00001-of-00002", "00002-of-00002"]
    assert repository.peft_base(repository.models[0]) == "owner/base"
    assert all(model.refused is None and model.kind == "gguf" for model in repository.models)


@pytest.mark.parametrize(
    ("file", "form"),
    [
        ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("smollm2-360m-instruct-q8_0.gguf", "Q8_0"),
        ("gemma-3-270m-it-qat-Q4_0.gguf", "Q4_0"),
        ("m-UD-Q3_K_XL.gguf", "Q3_K_XL"),
        ("m.IQ4_XS.gguf", "IQ4_XS"),
        ("phi-3-mini-4k-instruct-fp16.gguf", "F16"),
        ("BF16/m.gguf", "BF16"),
        ("Qwen2.5-0.5B.gguf", ""),
        ("FQ4_0x.gguf", ""),
    ],
)
def test_forms_in_names_of_gguf_files(file: str, form: str) -> None:
    (model,) = models(file)
    assert (model.form, model.refused) == (form, None)


@pytest.mark.parametrize("form", ["IQ2_XXS", "IQ3_M", "IQ1_S", "TQ1_0", "MXFP4_MOE"])
def test_forms_that_are_not_read_are_refused_before_anything_is_fetched(form: str) -> None:
    (model,) = models(f"m-{form}.gguf")
    assert model.refused == f"m-{form}.gguf: the form {form} is not read"
    # The control: none of them has become one that is read.
    assert not any(known.upper().startswith(UNREAD_FORMS) for known in FORMS)


def test_a_split_gguf_with_a_part_missing_is_refused() -> None:
    (model,) = models("m-F16-00001-of-00003.gguf", "m-F16-00003-of-00003.gguf")
    assert model.refused == "m-F16: 2 of 3 files are there"
    (model,) = models("m-00001-of-00002.gguf", "m-00002-of-00003.gguf")
    assert "do not agree" in (model.refused or "")


FOLDER = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja")


def test_a_repository_of_safetensors() -> None:
    more = {"safetensors": {"parameters": {"F32": 5, "BF16": 1000}, "total": 1005}}
    repository = read_repository(answer("model.safetensors", *FOLDER, "README.md", cardData={"license": "mit"}, **more))
    (model,) = repository.models
    assert (model.title, model.kind, model.form, model.refused) == ("name", "safetensors", "BF16", None)
    assert {file.path for file in model.files} == {"model.safetensors", *FOLDER}
    assert model.files[1].sha256 is None  # stated of large files only
    assert repository.peft_base(model) == "owner/name"


def test_shards_and_their_index_are_one_model() -> None:
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    (model,) = models(*shards, "model.safetensors.index.json", *FOLDER)
    assert {file.path for file in model.files} == {*shards, "model.safetensors.index.json", *FOLDER}
    assert model.refused is None
    (model,) = models(shards[0], *FOLDER[:1])
    assert model.refused == (
        "name: model: 1 of 2 files are there; model.safetensors.index.json is missing; tokenizer.json is missing"
    )
    (model,) = models(*shards, "model.safetensors", "model.safetensors.index.json", *FOLDER)  # as model/folder.py
    assert {file.path for file in model.files} == {"model.safetensors", *FOLDER}


def test_weights_of_other_types_are_refused() -> None:
    counted = {"safetensors": {"parameters": {"I32": 900, "F16": 100}}}
    (model,) = models("model.safetensors", *FOLDER, **counted)
    assert model.refused == "name: its weights are I32; wanted F32, F16 or BF16, or a GGUF file"


def test_what_cannot_be_opened_is_named_and_never_left_out() -> None:
    paths = [
        "pytorch_model.bin", "onnx/model.onnx", "tf_model.h5", "flax_model.msgpack", "rust_model.ot",
        "adapter_model.safetensors", "consolidated.00.pth", "m-Q8_0.gguf",
    ]  # fmt: skip
    found = models(*paths)
    assert [model.title for model in found if model.refused is None] == ["m-Q8_0"]
    said = {model.title: model.refused for model in found if model.refused}
    assert said["pickle"] == (
        "pytorch_model.bin, consolidated.00.pth are a pickle, which runs code when it is opened; "
        "wanted GGUF or safetensors"
    )
    assert said["ONNX"] == "onnx/model.onnx is for ONNX; wanted GGUF or safetensors"
    assert {"TensorFlow", "Flax", "rust-bert"} < set(said)
    assert "LoRA adapter" in (said["other safetensors"] or "")
    named = {file.path for model in found for file in model.files}
    assert named == set(paths)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ({"license": "apache-2.0"}, "apache-2.0"),
        ({"license": "other", "license_name": "lfm1.0"}, "lfm1.0"),
        ({"license": ["mit", "other"]}, "mit"),
        ({"license": 3}, None),
        ({}, None),
        (None, None),
        ("no object", None),
    ],
)
def test_licences(card: object, licence: str | None) -> None:
    assert read_repository(answer(cardData=card)).licence == licence


@pytest.mark.parametrize("base", [None, 3, [], ["a/b", "c/d"], "../x", [["a/b"]]])
def test_a_base_model_that_is_not_one_is_none(base: object) -> None:
    assert read_repository(answer(cardData={"base_model": base})).base_model is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": None}, "id is None"),
        ({"id": "hf:a/b"}, "id is 'hf:a/b'; wanted OWNER/NAME"),
        ({"id": "a/../b"}, "id is"),
        ({"sha": None}, "sha is None; wanted a commit"),
        ({"sha": "main"}, "sha is 'main'"),
        ({"siblings": None}, "siblings is None"),
        ({"siblings": {}}, "siblings is an object of 0"),
        ({"siblings": ["m.gguf"]}, "a file is 'm.gguf'; wanted an object with rfilename"),
        ({"siblings": [{"size": 3}]}, "a file is an object of 1"),
        ({"siblings": [{"rfilename": "../m.gguf", "size": 3}]}, "leaves its folder"),
        ({"siblings": [{"rfilename": "a//m.gguf", "size": 3}]}, "leaves its folder"),
        ({"siblings": [{"rfilename": "/m.gguf", "size": 3}]}, "is not relative"),
        ({"siblings": [{"rfilename": "c:\\m.gguf", "size": 3}]}, "is not relative"),
        ({"siblings": [{"rfilename": "m\n.gguf", "size": 3}]}, "cannot be printed"),
        ({"siblings": [{"rfilename": "m" * 2000, "size": 3}]}, "2000 characters"),
        ({"siblings": [{"rfilename": "m.gguf"}]}, "m.gguf: its size is None"),
        ({"siblings": [{"rfilename": "m.gguf", "size": -1}]}, "its size is -1"),
        ({"siblings": [{"rfilename": "m.gguf", "size": True}]}, "its size is True"),
        ({"siblings": [{"rfilename": "m.gguf", "size": 1e9}]}, "its size is 1000000000.0"),
        ({"siblings": [{"rfilename": "m.gguf", "size": 1 << 41}]}, "its size is 2199023255552"),
        ({"siblings": [{"rfilename": "m.gguf", "size": 10**5000}]}, "a number of many digits"),
        ({"siblings": [{"rfilename": "m.gguf", "size": 3, "lfs": {"size": 4, "sha256": HASH}}]}, "its size is 4"),
        ({"siblings": [{"rfilename": "m.gguf", "size": 3, "lfs": {"sha256": "x"}}]}, "its sha256 is 'x'"),
        ({"siblings": [{"rfilename": "m.gguf", "size": 3, "lfs": [1]}]}, "lfs is a list of 1"),
        ({"siblings": [{"rfilename": "m.gguf", "size": 3}] * 2}, "m.gguf is there twice"),
    ],
)
def test_hostile_answers(change: dict[str, Any], said: str) -> None:
    with pytest.raises(HubError, match=re.escape(said)) as caught:
        read_repository({**answer("m.gguf"), **change}, "owner/name")
    assert caught.value.reason == "answer"
    assert read_repository(answer("m.gguf")).models  # the control


@pytest.mark.parametrize("value", [None, [], "text", 3, {}])
def test_answers_that_are_no_repository(value: object) -> None:
    with pytest.raises(HubError, match="cannot be read"):
        read_repository(value, "owner/name")


@pytest.mark.parametrize("counted", [3, {"parameters": [1]}, {"parameters": {"BF16": "x"}}, {"parameters": {}}])
def test_a_count_of_weights_that_is_none_tells_no_form(counted: object) -> None:
    (model,) = models("model.safetensors", *FOLDER, safetensors=counted)
    assert (model.form, model.refused) == ("", None)


# ---------------------------------------------------------------------------------------------------- choosing


def test_choosing() -> None:
    paths = ["m-Q8_0.gguf", "m-Q4_K_M.gguf", "x/m-F16-00001-of-00002.gguf", "x/m-F16-00002-of-00002.gguf"]
    several = read_repository(answer(*paths, "pytorch_model.bin", "m-IQ2_S.gguf", sizes={"m-Q8_0.gguf": 386_000_000}))
    assert choose_model(several, "m-Q8_0.gguf").form == "Q8_0"
    assert choose_model(several, "q4_k_m").files[0].path == "m-Q4_K_M.gguf"
    assert choose_model(several, "x/m-F16-00002-of-00002.gguf").title == "x/m-F16"
    assert choose_model(several, "x/m-F16.gguf").title == "x/m-F16"
    with pytest.raises(HubError) as caught:
        choose_model(several, None)
    assert caught.value.reason == "choose"
    assert str(caught.value).splitlines() == [
        "owner/name holds 3 models; name one of them:",
        "  hf:owner/name:m-Q4_K_M.gguf  (1 kB, Q4_K_M)",
        "  hf:owner/name:x/m-F16-00001-of-00002.gguf  (2 kB, F16)",
        "  hf:owner/name:m-Q8_0.gguf  (386 MB, Q8_0)",
    ]
    with pytest.raises(HubError, match=r"no file or form m-Q5_0\.gguf; it holds:") as caught:
        choose_model(several, "m-Q5_0.gguf")
    assert caught.value.reason == "file" and "m-Q8_0.gguf  (386 MB, Q8_0)" in str(caught.value)
    with pytest.raises(HubError, match="the form IQ2_S is not read") as caught:
        choose_model(several, "m-IQ2_S.gguf")
    assert caught.value.reason == "refused"
    with pytest.raises(HubError, match="which runs code when it is opened"):
        choose_model(several, "pytorch_model.bin")


def test_choosing_where_there_is_one() -> None:
    folder = read_repository(answer("model.safetensors", *FOLDER, "pytorch_model.bin"))
    assert choose_model(folder, None).kind == "safetensors"
    assert choose_model(read_repository(answer("m-Q8_0.gguf")), None).form == "Q8_0"
    both = read_repository(answer("m-Q8_0.gguf", "model.safetensors", *FOLDER))
    assert choose_model(both, "model.safetensors").kind == "safetensors"
    with pytest.raises(HubError, match="holds 2 models"):
        choose_model(both, None)
    with pytest.raises(HubError, match="which runs code"):
        choose_model(read_repository(answer("pytorch_model.bin")), None)
    with pytest.raises(HubError, match="holds no model: no GGUF file and no safetensors"):
        choose_model(read_repository(answer("README.md")), None)
    with pytest.raises(HubError, match="holds 2 models of the form Q8_0"):
        choose_model(read_repository(answer("a-Q8_0.gguf", "b-Q8_0.gguf")), "Q8_0")


# ---------------------------------------------------------------------------------------------------- words


CASES = [
    (401, "GatedRepo", None, "gated"),
    (403, "GatedRepo", None, "gated"),
    (403, None, None, "gated"),
    (401, "RepoNotFound", "Invalid username or password.", "missing"),
    (404, "RepoNotFound", None, "missing"),
    (401, None, "Invalid credentials in Authorization header", "token"),
    (404, "RevisionNotFound", None, "revision"),
    (404, "EntryNotFound", None, "file"),
    (403, "X", "Access to this resource is disabled.", "disabled"),
    (429, None, None, "busy"),
    (503, None, None, "server"),
    (500, None, "Internal Error", "server"),
    (418, None, None, "server"),
]


@pytest.mark.parametrize("in_page", [False, True])
def test_each_failure_has_its_own_sentence(in_page: bool) -> None:
    name = HubName("owner/name", "m.gguf", "v9")
    said = {}
    for status, code, message, reason in CASES:
        error = hub_words.answer_error(name, status, code, message, in_page=in_page)
        assert error.reason == reason
        assert "owner/name" in str(error)
        said.setdefault(str(error), []).append((status, code))
    assert hub_words.answer_error(HubName("a/b"), 404).reason == "missing"
    more = [
        hub_words.offline("huggingface.co"),
        hub_words.cut_off("m.gguf", 5, 10),
        hub_words.wrong_size("m.gguf", 5, 10),
        hub_words.wrong_hash("m.gguf", "a", "b"),
        hub_words.bad_answer("a/b", "x"),
    ]
    assert len({*said, *map(str, more)}) == len(said) + len(more)
    # One fewer than reasons and cases tell apart in the page, which sends no token that could have no access.
    assert len(said) == (10 if in_page else 11)
    told = " ".join(said)
    assert ("HF_TOKEN" in told) is not in_page
    assert {error.reason for error in more} == {"offline", "cut", "damaged", "answer"}


def test_every_reason_stands_in_the_list() -> None:
    listed = set(re.findall(r"^    (\w+) +\S", hub_words.__doc__ or "", re.MULTILINE))
    assert {case[3] for case in CASES} | {"name", "offline", "cut", "damaged", "answer", "choose", "refused"} == listed


def test_names_that_have_changed() -> None:
    assert hub_words.renamed("a/b", "a/b") is None
    assert hub_words.renamed("a/b", "a/c") == "a/b has been renamed: it is a/c now"
    assert hub_words.renamed("a/b", "c/b") == "a/b has moved to c: it is c/b now"
    assert hub_words.renamed("a/b", "c/d") == "a/b has been renamed: it is c/d now, with c"
    assert hub_words.renamed("A/b", "a/B") == "A/b is written a/B on the hub"


def test_the_models_to_begin_with_are_named_well() -> None:
    assert len({starter.repository for starter in STARTERS}) == len(STARTERS) >= 6
    for starter in STARTERS:
        assert parse_hub_name(str(starter.name)) == starter.name
        assert starter.word and starter.licence
        assert starter.file is None or models(starter.file)[0].refused is None


@pytest.mark.parametrize(("size", "said"), [(1, "0 kB"), (386_404_992, "386 MB"), (1_545_303_328, "1.55 GB")])
def test_sizes(size: int, said: str) -> None:
    assert hub_words.size_words(size) == said


# ---------------------------------------------------------------------------------------------------- the local hub

MODEL = bytes(range(256)) * 100


@pytest.fixture
def server() -> Any:
    with HubServer(Repository("owner/name", {"m-Q8_0.gguf": MODEL, "config.json": b"{}"})) as server:
        yield server


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Send one request, following nothing."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, found, response.read()
    finally:
        connection.close()


def test_the_local_hub_lists_what_is_read(server: HubServer) -> None:
    status, headers, body = ask(f"{server.url}{HubName('owner/name').api_path}", Origin="http://page")
    repository = read_repository(json.loads(body))
    assert status == 200 and isinstance(repository, HubRepository)
    (model,) = repository.models
    assert model.files[0] == HubFile("m-Q8_0.gguf", len(MODEL), server.repositories["owner/name"].sha256("m-Q8_0.gguf"))
    assert headers["access-control-allow-origin"] == "http://page"
    assert "X-Error-Code" in headers["access-control-expose-headers"]


def test_the_local_hub_redirects_to_a_storage_that_answers_ranges(server: HubServer) -> None:
    url = f"{server.url}{file_path('owner/name', 'main', 'm-Q8_0.gguf')}"
    status, headers, _ = ask(url, "HEAD")
    assert (status, headers["x-linked-size"]) == (302, str(len(MODEL)))
    assert headers["location"].startswith(server.storage_url) and server.storage_url != server.url
    status, there, body = ask(headers["location"], Range="bytes=100-299")
    assert (status, there["content-range"], body) == (206, f"bytes 100-299/{len(MODEL)}", MODEL[100:300])
    assert ask(headers["location"])[::2] == (200, MODEL)
    assert ask(headers["location"], Range=f"bytes={len(MODEL)}-")[0] == 416
    assert ask(headers["location"], "OPTIONS")[0] == 403
    status, headers, _ = ask(f"{server.url}{file_path('owner/name', 'main', 'config.json')}")
    assert status == 307 and headers["location"].startswith("/api/")
    assert ask(server.url + headers["location"])[2] == b"{}"
    assert [request.where for request in server.requests] == ["hub", *["storage"] * 4, "hub", "hub"]
    assert server.requests[1].range == "bytes=100-299"


def test_the_local_hub_refuses_as_the_real_one(server: HubServer) -> None:
    def code(path: str, **headers: str) -> tuple[int, str | None]:
        status, found, _ = ask(server.url + path, **headers)
        return status, found.get("x-error-code")

    assert code("/api/models/owner/none") == (401, "RepoNotFound")
    assert code("/api/models/owner/none", Authorization="Bearer x") == (404, "RepoNotFound")
    assert code("/api/models/owner/name/revision/v9") == (404, "RevisionNotFound")
    assert code("/owner/name/resolve/main/none.gguf") == (404, "EntryNotFound")
    server.repositories["owner/name"].gated = "auto"
    assert code("/owner/name/resolve/main/config.json") == (401, "GatedRepo")
    assert code("/owner/name/resolve/main/config.json", Authorization="Bearer x") == (403, "GatedRepo")
    assert code("/api/models/owner/name")[0] == 200
    server.tokens.add("x")
    assert code("/owner/name/resolve/main/config.json", Authorization="Bearer x") == (307, None)
    server.renamed["owner/old"] = "owner/name"
    status, headers, _ = ask(f"{server.url}/api/models/owner/old?blobs=true")
    assert (status, headers["location"]) == (307, "/api/models/owner/name?blobs=true")
    server.fail_once["/api/models"] = 503
    assert [code("/api/models/owner/name")[0] for _ in range(2)] == [503, 200]


def test_the_local_hub_cuts_spoils_and_goes_offline(server: HubServer) -> None:
    location = ask(f"{server.url}/owner/name/resolve/main/m-Q8_0.gguf")[1]["location"]
    server.cut_after["m-Q8_0.gguf"] = 70_000 % len(MODEL)
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(location)
    assert caught.value.partial == MODEL[: 70_000 % len(MODEL)]
    assert ask(location)[2] == MODEL  # once
    server.wrong_bytes.add("m-Q8_0.gguf")
    found = ask(location)[2]
    assert (len(found), found[:-1], found[-1]) == (len(MODEL), MODEL[:-1], MODEL[-1] ^ 1)
    server.wrong_bytes.clear()
    url = server.url
    server.go_offline()
    with pytest.raises(ConnectionRefusedError):
        ask(location)
    server.go_online()
    assert server.url == url and ask(location)[2] == MODEL
