"""Hostile model files: refused before any library parses them, with what was found and what to do."""

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import UnsupportedModel, UntrustedModel
from workbench.io import safetensors_header, trust
from workbench.models import gguf_header

# --- configurations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"auto_map": {"AutoModel": "evil--model.Evil"}},
        {"text_config": {"auto_map": {}}},
        {"layers": [{"x": {"trust_remote_code": True}}]},
        {"_attn_implementation_internal": "someone/kernel"},
        {"vision_config": {"_experts_implementation_internal": "someone/kernel"}},
        {"attn_implementation": "someone/kernel"},
        {"_attn_implementation": {"": "someone/kernel"}},
        {"kernel_config": {}},
        {"transformers_weights": "../../elsewhere.safetensors"},
    ],
)
def test_configurations_that_lead_to_code_are_refused(config):
    with pytest.raises(UntrustedModel, match=r"config\.json contains '.*HookedLM") as caught:
        trust.check_config({"model_type": "llama", **config}, "config.json")
    assert caught.value.exit_code == 3


def test_ordinary_configurations_pass_and_quantised_ones_are_explained():
    trust.check_config({"model_type": "llama", "_attn_implementation": "sdpa", "rope": {"type": "default"}}, "c")
    with pytest.raises(UnsupportedModel, match=r"quantization_config.*\.gguf"):
        trust.check_config({"quantization_config": {"quant_method": "awq"}}, "c")


def test_nesting_bombs_are_refused():
    with pytest.raises(UntrustedModel, match="not a JSON file"):
        trust.parse_json(b"[" * 500_000, "config.json")
    deep: dict = {}
    for _ in range(100):
        deep = {"a": deep}
    with pytest.raises(UntrustedModel, match="nested more than"):
        trust.check_config(deep, "config.json")
    with pytest.raises(UntrustedModel, match="contains a list"):
        trust.parse_json(b"[]", "config.json")


# --- weights in a directory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt", "model.pkl", "arrays.npz", "x.pth"])
def test_pickles_are_refused_with_a_way_to_convert_them(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(UntrustedModel, match=rf"only as {name}.*save_pretrained"):
        trust.weight_files(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")  # beside safetensors they are simply not read
    assert [path.name for path in trust.weight_files(tmp_path)] == ["model.safetensors"]


@pytest.mark.parametrize(
    "name", ["../evil.safetensors", "/etc/x.safetensors", "a/b.safetensors", "..", "", "x.bin", "c:x"]
)
def test_an_index_of_shards_cannot_name_files_elsewhere(tmp_path, name):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(UntrustedModel, match="names the file"):
        trust.weight_files(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "model-1.safetensors"}}))
    with pytest.raises(UntrustedModel, match=r"model-1\.safetensors, which is missing"):
        trust.weight_files(tmp_path)


# --- safetensors headers ----------------------------------------------------------------------------------------------


def safetensors_bytes(header, data=b"\0" * 16):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def f32(shape, begin, end):
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "its header claims 0 bytes"),
        (struct.pack("<Q", 2**63) + b"{}", "its header claims 9,223,372,036,854,775,808 bytes"),
        (safetensors_bytes(b"[" * 100_000), "not a JSON file"),
        (safetensors_bytes({"w": f32([4], 0, 32)}), "needs 16 bytes, not 32"),
        (safetensors_bytes({"w": f32([2**40, 2**40], 0, 16)}), "needs"),
        (safetensors_bytes({"w": f32([-4], 0, 16)}), "no valid shape"),
        (safetensors_bytes({"w": f32([True], 0, 4)}), "no valid shape"),
        (safetensors_bytes({"w": f32([2**50], 0, 16)}), "no valid shape"),
        (safetensors_bytes({"w": f32([4], 8, 24)}), "starts at byte"),
        (safetensors_bytes({"a": f32([4], 0, 16), "b": f32([2], 8, 16)}), "starts at byte"),
        (safetensors_bytes({"w": f32([4], 0, 16)}, b"\0" * 12), "truncated or altered"),
        (safetensors_bytes({"w": f32([4], 0, 16)}, b"\0" * 20), "truncated or altered"),
        (safetensors_bytes({"w": {"dtype": "PICKLE", "shape": [4], "data_offsets": [0, 16]}}), "dtype 'PICKLE'"),
        (safetensors_bytes({"w": [1, 2]}), "dtype"),
    ],
)
def test_malformed_safetensors_are_refused(tmp_path, data, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(UntrustedModel) as caught:
        safetensors_header.read(path)
    assert message in str(caught.value)


def test_a_sound_safetensors_header_is_read(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes({"__metadata__": {"format": "pt"}, "b": f32([2], 8, 16), "a": f32([2], 0, 8)}))
    assert [(tensor.name, tensor.shape, tensor.elements) for tensor in safetensors_header.read(path).tensors] == [
        ("a", (2,), 2),
        ("b", (2,), 2),
    ]


# --- GGUF headers, made by hand ---------------------------------------------------------------------------------------


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf(keys=b"", key_count=0, tensors=(), data=b"", version=3, magic=b"GGUF", tensor_count=None):
    """The bytes of a GGUF file; a tensor is (name, shape, type, offset)."""
    count = len(tensors) if tensor_count is None else tensor_count
    head = magic + struct.pack("<IQQ", version, count, key_count) + keys
    for name, shape, kind, offset in tensors:
        head += string(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", size) for size in shape)
        head += struct.pack("<IQ", kind, offset)
    return head + b"\0" * (-len(head) % 32) + data


def key(name, kind, value):
    return string(name) + struct.pack("<I", kind) + value


def nested(depth):
    return b"".join(struct.pack("<IQ", 9, 1) for _ in range(depth)) + struct.pack("<IQ", 4, 0)


ARCHITECTURE = key("general.architecture", 8, string("llama"))
F32, Q4_1 = 0, 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"GGUF", "it has 4 bytes"),
        (gguf(magic=b"GGML"), "starts with b'GGML'"),
        (gguf(version=1), "version 1"),
        (gguf(version=3 << 24), "version 50331648"),
        (gguf(tensor_count=2**60), "the number of tensors is 1,152,921,504,606,846,976"),
        (gguf(key_count=2**40), "the number of metadata keys is 1,099,511,627,776"),
        (gguf(key_count=3), "are left"),
        (gguf(struct.pack("<Q", 2**62), 1), "the length of a metadata key is"),
        (gguf(string(b"\xff\xfe") + b"\0" * 32, 1), "not UTF-8"),
        (gguf(key("a", 8, struct.pack("<Q", 2**20 - 1)), 1), "are left"),
        (gguf(key("a", 99, b""), 1), "unknown value type 99"),
        (gguf(key("a", 4, b"\0" * 4) * 2, 2), "'a' occurs twice"),
        (gguf(key("a", 9, struct.pack("<IQ", 8, 2**40)), 1), "the length of the value of 'a' is"),
        (gguf(key("a", 9, struct.pack("<IQ", 8, 2**23)), 1), "are left"),
        (gguf(key("a", 9, struct.pack("<IQ", 12, 2**24)), 1), "are left"),
        (gguf(key("a", 9, nested(4)), 1), "nests arrays more than"),
        (gguf(key("a", 9, nested(50_000)), 1), "nests arrays more than"),
        (gguf(key("general.alignment", 4, struct.pack("<I", 24)), 1), "alignment 24"),
        (gguf(key("general.alignment", 8, string("32")), 1), "alignment '32'"),
        (gguf(tensors=[("w", (), F32, 0)], data=b"\0" * 32), "0 dimensions"),
        (gguf(tensors=[("w", (1,) * 9, F32, 0)], data=b"\0" * 32), "9 dimensions"),
        (gguf(tensors=[("w", (0,), F32, 0)], data=b"\0" * 32), "shape [0]"),
        (gguf(tensors=[("w", (2**63,), F32, 0)], data=b"\0" * 32), "shape [9223372036854775808]"),
        (gguf(tensors=[("w", (2**39, 2**39, 2**39), F32, 0)], data=b"\0" * 32), "outside the file"),
        (gguf(tensors=[("w", (8,), 4, 0)], data=b"\0" * 32), "unknown type 4"),
        (gguf(tensors=[("w", (33,), Q4_1, 0)], data=b"\0" * 64), "rows of 33"),
        (gguf(tensors=[("w", (16,), F32, 0)], data=b"\0" * 63), "truncated or altered"),
        (gguf(tensors=[("w", (8,), F32, 64)], data=b"\0" * 96), "leaves a gap"),
        (gguf(tensors=[("a", (16,), F32, 0), ("b", (8,), F32, 32)], data=b"\0" * 64), "overlaps"),
        (gguf(tensors=[("a", (8,), F32, 0), ("a", (8,), F32, 32)], data=b"\0" * 64), "name occurs twice"),
        (gguf(tensors=[("w" * 2000, (8,), F32, 0)], data=b"\0" * 32), "the length of a tensor's name is 2,000"),
    ],
)
def test_hostile_gguf_headers_are_refused(tmp_path, data, message):
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(UntrustedModel) as caught:
        gguf_header.read(path)
    assert message in str(caught.value)


SOUND = gguf(
    ARCHITECTURE + key("tokens", 9, struct.pack("<IQ", 8, 2) + string("a") + string("b")) + key("x", 12, b"\0" * 8),
    3,
    [("a", (32, 2), Q4_1, 0), ("b", (3,), F32, 64)],
    b"\0" * 96,
)


def test_a_sound_gguf_header_is_read(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(SOUND)
    header = gguf_header.read(path)
    assert header.architecture == "llama" and header.metadata["tokens"] == 2 and header.elements == 67
    assert [(tensor.name, tensor.end - tensor.begin) for tensor in header.tensors] == [("a", 40), ("b", 12)]


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=6),
    length=st.integers(0, len(SOUND)),
)
def test_a_damaged_gguf_header_is_read_or_refused_and_nothing_else(tmp_path_factory, changes, length):
    data = bytearray(SOUND)
    for position, value in changes:
        data[position] = value
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(bytes(data[:length]) if length % 2 else bytes(data))
    try:
        header = gguf_header.read(path)
    except UntrustedModel as error:
        assert str(path) in str(error)
    else:
        assert all(tensor.end <= path.stat().st_size for tensor in header.tensors)
