"""The packaged config of this name, for `python launch.py --config=configs/methods.py`."""

from jaxbudget.lab.configs.methods import get_config as get_config
