#!/bin/sh
# Prepares Dagster's home (dagster.yaml with freshness policies on) below HEADRACE_HOME, then runs the command.
set -eu
umask 077
DAGSTER_HOME=$(python -c "
from feature_repo.home import Home
from feature_repo.settings import load_settings
from orchestration.processes.dagster_home import prepare_instance
print(prepare_instance(Home(load_settings().home).ensure()))")
export DAGSTER_HOME
exec "$@"
