"""Launches jaxbudget from its repository, as the command `jaxbudget` does where it is installed.

python launch.py --config=configs/quickstart.py --workdir=runs/quickstart
python launch.py --config=configs/single.py:dataset=cifar10,selector=p_sgd,budget=0.3
"""

import sys

if __name__ == '__main__':
  try:
    from jaxbudget.lab.command import run

    run()
  except KeyboardInterrupt:  # while modules are loaded; later the launcher sees to it
    print('stopped', file=sys.stderr)
    sys.exit(130)
