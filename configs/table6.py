"""The packaged config of this name, for `python launch.py --config=configs/table6.py`."""

from jaxbudget.lab.configs.table6 import get_config as get_config
