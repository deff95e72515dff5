"""The same rows in PyTorch: images and augmentation on the card, channels last, autocast.

Each line of standard input is answered by an epoch and a line of JSON, see `peer.py`. All that a
careful user does by hand is done: cuDNN chooses by timing, the optimizer is fused, no row waits.
"""

import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import torch
from torch.nn import functional
from torch_reference import CLASSES, STAGES, ResNet


def transform(image, top, left, flip, pad):
  """Pads, crops, mirrors and normalises u8[n,H,W,C] to f32[n,C,H,W], channels last."""
  n, height, width, _ = image.shape
  image = functional.pad(image, (0, 0, pad, pad, pad, pad))
  down, along = (torch.arange(size, device=image.device) for size in (height, width))
  each = torch.arange(n, device=image.device)[:, None, None]
  image = image[each, (top[:, None] + down)[:, :, None], (left[:, None] + along)[:, None, :]]
  image = torch.where(flip[:, None, None, None], image.flip(2), image)
  return ((image.float() / 255 - 0.5) / 0.25).permute(0, 3, 1, 2)


class Training:
  """A network under training by uniform sampling."""

  def __init__(self, case):
    self.case, self.device = case, case['device']
    device = self.device
    exact = case['format'] == 'float32'
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not exact
    torch.backends.cudnn.benchmark = True
    n, side = case['examples'], case['side']
    self.image = torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8, device=device)
    self.label = torch.randint(0, CLASSES, (n,), device=device)
    network = ResNet(STAGES[case['model']], case['width'], 3)
    self.network = network.to(device, memory_format=torch.channels_last).train()
    self.optimizer = torch.optim.SGD(
      self.network.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, fused=True
    )
    self.model, self.transform = self.network, transform
    if case['form'] != 'eager':
      mode = {'compiled': 'default', 'graphs': 'reduce-overhead'}[case['form']]
      self.model = torch.compile(self.network, mode=mode)
      self.transform = torch.compile(transform)
    self.rows = max(1, int(n * case['budget']) // case['batch'])

  def epoch(self, rows):
    """Trains rows of an epoch."""
    batch, pad = self.case['batch'], self.case['side'] // 8
    order = torch.randperm(self.case['examples'], device=self.device)
    for row in range(rows):
      index = order[row * batch : (row + 1) * batch]
      top, left = torch.randint(0, 2 * pad + 1, (2, batch), device=self.device)
      flip = torch.rand(batch, device=self.device) < 0.5
      image = self.transform(self.image[index], top, left, flip, pad)
      torch.compiler.cudagraph_mark_step_begin()
      half = self.case['format'] == 'bfloat16'
      with torch.autocast(self.device, torch.bfloat16, enabled=half):
        loss = functional.cross_entropy(self.model(image), self.label[index])
      self.optimizer.zero_grad()
      loss.backward()
      self.optimizer.step()

  def wait(self):
    """Until the card is done."""
    if self.device == 'cuda':
      torch.cuda.synchronize()


def main(case):
  training = None

  def answer(rows=None):
    nonlocal training
    training = training or Training(case)
    rows = rows or training.rows
    start = time.perf_counter()
    training.epoch(rows)
    training.wait()
    return {'seconds': (time.perf_counter() - start) / rows}

  try:
    ready = answer(rows=4)  # compiles, and chooses kernels
  except Exception as e:
    ready = {'failed': f'{type(e).__name__}: {str(e)[:300]}'}
  print(json.dumps(ready), flush=True)
  for _ in sys.stdin:
    print(json.dumps(answer()), flush=True)


if __name__ == '__main__':
  main(json.loads(sys.argv[1]))
