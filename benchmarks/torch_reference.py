r"""The same work in plain PyTorch: what a user would otherwise run.

  python benchmarks/torch_reference.py 'resnet18, width 16, p_sgd'
  python benchmarks/torch_reference.py --smoke 'digits quickstart, sgd'

ResNet (CIFAR form), ResNet-9 or airbench94, SGD, a DataLoader that pads, crops, flips and
normalises in 2 workers; p-SGD chooses with NumPy; Selective Backprop keeps its queue in Python.
`side_by_side.py` starts this as a process of its own: each line it writes to standard input is
answered by an epoch and a line of JSON.
"""

import argparse
import collections
import json
import os
import sys
import time

import numpy as np
import torch
from cases import CASES, smoke
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

CLASSES = 10
HISTORY = 1024  # losses that Selective Backprop remembers


class Block(nn.Module):
  """Basic residual block: two 3x3 convolutions, ReLU after the addition."""

  def __init__(self, features_in, features, stride):
    super().__init__()
    self.conv1 = nn.Conv2d(features_in, features, 3, stride, padding=1, bias=False)
    self.norm1 = nn.BatchNorm2d(features)
    self.conv2 = nn.Conv2d(features, features, 3, 1, padding=1, bias=False)
    self.norm2 = nn.BatchNorm2d(features)
    self.shortcut = nn.Sequential()
    if stride != 1 or features_in != features:
      self.shortcut = nn.Sequential(
        nn.Conv2d(features_in, features, 1, stride, bias=False), nn.BatchNorm2d(features)
      )

  def forward(self, x):
    """Maps [n,features_in,h,w] to [n,features,h/stride,w/stride]."""
    y = functional.relu(self.norm1(self.conv1(x)))
    return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
  """A 3x3 stem, stages of blocks that halve the image and double the width, a linear head."""

  def __init__(self, stages, width, channels):
    super().__init__()
    layers = [
      nn.Conv2d(channels, width, 3, padding=1, bias=False),
      nn.BatchNorm2d(width),
      nn.ReLU(),
    ]
    features = width
    for stage, blocks in enumerate(stages):
      for block in range(blocks):
        stride = 2 if stage > 0 and block == 0 else 1
        layers.append(Block(features, width * 2**stage, stride))
        features = width * 2**stage
    self.body = nn.Sequential(*layers)
    self.head = nn.Linear(features, CLASSES)

  def forward(self, x):
    """Maps images [n,c,h,w] to logits [n,C]."""
    return self.head(self.body(x).mean((2, 3)))


def layer(features_in, features, *pool):
  """3x3 convolution, BatchNorm, ReLU, and a pool if there is one: of ResNet-9."""
  convolution = nn.Conv2d(features_in, features, 3, padding=1, bias=False)
  return nn.Sequential(convolution, nn.BatchNorm2d(features), nn.ReLU(), *pool)


class Residual(nn.Module):
  """Two layers, added to what they are given."""

  def __init__(self, features):
    super().__init__()
    self.inside = nn.Sequential(layer(features, features), layer(features, features))

  def forward(self, x):
    """Keeps the shape [n,features,h,w]."""
    return x + self.inside(x)


class Maximum(nn.Module):
  """A body of convolutions, the maximum over the image, a linear head without bias, scaled."""

  def __init__(self, body, features, scale):
    super().__init__()
    self.body, self.scale = body, scale
    self.head = nn.Linear(features, CLASSES, bias=False)

  def forward(self, x):
    """Maps images [n,c,h,w] to logits [n,C]."""
    return self.head(self.body(x).amax((2, 3))) * self.scale


def resnet9(width, channels):
  """ResNet-9 of DAWNBench."""
  pool = nn.MaxPool2d(2)
  body = nn.Sequential(
    layer(channels, width),
    layer(width, 2 * width, pool), Residual(2 * width),
    layer(2 * width, 4 * width, pool),
    layer(4 * width, 8 * width, pool), Residual(8 * width),
  )  # fmt: skip
  return Maximum(body, 8 * width, 1 / 8)


def airbench94(width, channels):
  """airbench94: frozen 2x2 filters, three groups of two convolutions, BatchNorm without a scale."""
  whiten = nn.Conv2d(channels, 8 * channels, 2)
  whiten.weight.requires_grad = False
  layers, features_in = [whiten, nn.GELU()], 8 * channels
  for features in (width, 4 * width, 4 * width):
    for pool in ([nn.MaxPool2d(2)], []):
      norm = nn.BatchNorm2d(features)
      norm.weight.requires_grad = False
      convolution = nn.Conv2d(features_in, features, 3, padding=1, bias=False)
      layers += [convolution, *pool, norm, nn.GELU()]
      features_in = features
  return Maximum(nn.Sequential(*layers), features_in, 1 / 9)


STAGES = {'resnet18': (2, 2, 2, 2), 'resnet8': (1, 1, 1)}
OTHERS = {'resnet9': resnet9, 'airbench94': airbench94}


def make_model(name, width, channels):
  """The network of a case."""
  if name in OTHERS:
    return OTHERS[name](width, channels)
  return ResNet(STAGES[name], width, channels)


class Images(Dataset):
  """Random uint8 images; a sample is padded, cropped, flipped and normalised when loaded."""

  def __init__(self, case):
    shape = case.num_examples, case.channels, case.side, case.side
    self.image = torch.randint(0, 256, shape, dtype=torch.uint8)
    self.label = torch.randint(0, CLASSES, (case.num_examples,))
    self.pad, self.flips = case.side // 8, case.channels == 3  # digits are not mirrored

  def __len__(self):
    return len(self.label)

  def __getitem__(self, index):
    image = functional.pad(self.image[index], (self.pad,) * 4)
    top, left = torch.randint(0, 2 * self.pad + 1, (2,)).tolist()
    side = self.image.shape[-1]
    image = image[:, top : top + side, left : left + side]
    if self.flips and torch.rand(()) < 0.5:
      image = image.flip(2)
    return index, (image.float() / 255 - 0.5) / 0.25, self.label[index]


class Chosen:
  """A sampler whose indices are set before each epoch."""

  def __init__(self):
    self.index = []

  def __iter__(self):
    return iter(self.index)

  def __len__(self):
    return len(self.index)


class Training:
  """A network under training by one method."""

  def __init__(self, case):
    self.case = case
    self.model = make_model(case.model, case.width, case.channels)
    trained = [leaf for leaf in self.model.parameters() if leaf.requires_grad]
    self.optimizer = torch.optim.SGD(trained, 0.1, momentum=0.9, weight_decay=1e-4)
    self.sampler = Chosen()
    self.loader = DataLoader(
      Images(case), case.batch_size, sampler=self.sampler, num_workers=2, drop_last=True,
      persistent_workers=True,
    )  # fmt: skip
    self.rng = np.random.default_rng(0)
    self.total, self.seen = np.zeros(case.num_examples), np.zeros(case.num_examples)
    self.losses = collections.deque(maxlen=HISTORY)
    self.queue = []

  def epoch(self):
    """Trains one epoch. Returns (samples scored, samples trained on)."""
    n, case = self.case.num_examples, self.case
    if case.method == 'selective_backprop':
      self.sampler.index = self.rng.permutation(n).tolist()
      return self.selective_backprop()
    samples = int(n * case.budget)
    chance = self.importance() if case.method == 'p_sgd' else None
    self.sampler.index = self.rng.choice(n, samples, replace=False, p=chance).tolist()
    self.model.train()
    trained = 0
    for index, image, label in self.loader:
      logits = self.step(image, label)
      if case.method == 'p_sgd':
        probability = torch.softmax(logits, 1)[torch.arange(len(label)), label].numpy()
        np.add.at(self.total, index.numpy(), 1 - probability)
        np.add.at(self.seen, index.numpy(), 1)
      trained += len(label)
    return 0, trained

  def importance(self):
    """Sampling probabilities of p-SGD: mean difficulty, the unseen hardest, plus the mean."""
    seen = self.seen > 0
    mean = self.total / np.maximum(self.seen, 1)
    weight = np.where(seen, mean, mean.max() if seen.any() else 1.0)
    weight = weight + weight.mean()
    return weight / weight.sum()

  def step(self, image, label):
    """One step of SGD. Returns the logits."""
    logits = self.model(image)
    loss = functional.cross_entropy(logits, label)
    self.optimizer.zero_grad()
    loss.backward()
    self.optimizer.step()
    return logits.detach()

  def selective_backprop(self):
    """Scores every batch, queues what is accepted, trains on full batches of the queue."""
    b, size = 1 / self.case.budget - 1, self.case.batch_size
    scored = trained = 0
    for _, image, label in self.loader:
      self.model.eval()
      with torch.no_grad():
        losses = functional.cross_entropy(self.model(image), label, reduction='none').numpy()
      scored += len(label)
      self.losses.extend(losses.tolist())
      below = np.searchsorted(np.sort(self.losses), losses) / len(self.losses)
      accepted = self.rng.random(len(losses)) < below**b
      self.queue += [(image[i], label[i]) for i in np.flatnonzero(accepted)]
      if len(self.queue) >= size:
        batch, self.queue = self.queue[:size], self.queue[size:]
        images, labels = zip(*batch, strict=True)
        self.model.train()
        self.step(torch.stack(images), torch.stack(labels))
        trained += size
    return scored, trained


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('case', choices=CASES)
  parser.add_argument('--threads', type=int, default=2)
  parser.add_argument('--serve', action='store_true', help='an epoch for each line of stdin')
  parser.add_argument('--smoke', action='store_true', help='tiny sizes')
  flags = parser.parse_args()
  if hasattr(os, 'sched_setaffinity'):  # the loader's workers share these cores
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: flags.threads])
  torch.set_num_threads(flags.threads)
  torch.manual_seed(0)
  case = CASES[flags.case]
  training = Training(smoke(case) if flags.smoke else case)
  for _ in sys.stdin if flags.serve else range(3):
    start = time.perf_counter()
    scored, trained = training.epoch()
    seconds = time.perf_counter() - start
    answer = {'seconds': seconds, 'scored': scored, 'trained': trained}
    print(json.dumps({**answer, 'version': f'torch {torch.__version__}'}), flush=True)


if __name__ == '__main__':
  main()
