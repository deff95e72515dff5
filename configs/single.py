"""The packaged config of this name, for `python launch.py --config=configs/single.py`."""

from jaxbudget.lab.configs.single import get_config as get_config
