#!/bin/bash
# Trains the digits GAN with two worker processes on this machine, from the repository's root:
#
#     bash docs/two_processes.sh --workdir=runs/two_processes --config.training.steps=200
#
# On two machines each would start its own line, with the machines' names in place of localhost.
port() { python -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'; }

workers="\"localhost:$(port)\", \"localhost:$(port)\""
pids=()
for index in 0 1; do
  TF_CONFIG="{\"cluster\": {\"worker\": [$workers]}, \"task\": {\"type\": \"worker\", \"index\": $index}}" \
    python -m train.gan --config=train/configs/digits_attennorm.py --config.training.strategy=multi_worker "$@" &
  pids+=($!)
done
trap 'kill -TERM "${pids[@]}"' TERM INT
code=0
for pid in "${pids[@]}"; do wait "$pid" || code=$?; done
exit $code
