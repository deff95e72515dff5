"""The packaged config of this name, for `python launch.py --config=configs/coresets.py`."""

from jaxbudget.lab.configs.coresets import get_config as get_config
