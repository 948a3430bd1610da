"""Networks that several chapters train."""

from collections.abc import Sequence

from torch import Tensor, nn


def convnet(
    channels: int, classes: int, widths: Sequence[int] = (16, 32, 64), strides: Sequence[int] = (2, 1, 2)
) -> nn.Sequential:
    """3x3 convolutions with batch norm and ReLU, global average pooling, a linear layer: (B, C, H, W) to (B, classes).

    Strides do the work of pooling, which is twice as fast on a processor. ``net[:-1]`` is the feature extractor, with
    outputs (B, widths[-1]); ``net[-1]`` the classifier. Raises ValueError unless there is a stride for each width.
    """
    layers, inputs = [], channels
    for width, stride in zip(widths, strides, strict=True):
        layers += [nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


class BasicBlock(nn.Module):
    """A residual block of two 3x3 convolutions: (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """The input (or its projection) plus what the two convolutions make of it."""
        return (self.norm2(self.conv2(self.norm1(self.conv1(x)).relu())) + self.shortcut(x)).relu()


def resnet18(channels: int, classes: int, width: int = 64) -> nn.Sequential:
    """ResNet-18 for small images: (B, C, H, W) to (B, classes); He et al., 2016, with the stem that CIFAR asks for.

    A 3x3 convolution in place of the 7x7 one and of the pooling after it, then four stages of two blocks with ``width``
    to 8 ``width`` channels. As in ``convnet``, ``net[:-1]`` is the feature extractor and ``net[-1]`` the classifier.
    """
    layers = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    inputs = width
    for outputs, stride in ((width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2)):
        layers += [BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))
