"""One cell, with the paper's protocol: any data set, method, augmentation and budget.

  jaxbudget --config=single:dataset=cifar10,selector=p_sgd,budget=0.3

Cost: B times a full training (ResNet-18, 200 epochs), for each of three seeds;
`--stage=plan` prints it. Every key of `jaxbudget.lab.config.defaults` can be given behind the
colon or as `--config.KEY=VALUE`.
"""

from jaxbudget.lab import config


def get_config(arg: str | None = None):
  """Reads `key=value,...`; options of methods as `selector_options.warmup=70`."""
  found = config.defaults()
  config.override(found, config.parse_arg(arg))
  return found
