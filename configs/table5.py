"""The packaged config of this name, for `python launch.py --config=configs/table5.py`."""

from jaxbudget.lab.configs.table5 import get_config as get_config
