"""The packaged config of this name, for `python launch.py --config=configs/all.py`."""

from jaxbudget.lab.configs.all import get_config as get_config
