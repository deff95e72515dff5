"""The packaged config of this name, for `python launch.py --config=configs/imagenet.py`."""

from jaxbudget.lab.configs.imagenet import get_config as get_config
