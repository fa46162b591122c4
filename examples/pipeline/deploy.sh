#!/bin/sh
# A step of a pipeline: builds an image, pushes it under two tags, and deploys it. The exit code is 0 once the new version
# runs; that of the command that failed otherwise, 4 if the version does not run.
#
#   PYSWARM_HOST=HOST:2377 PYSWARM_TOKEN=TOKEN examples/pipeline/deploy.sh STACK NAME REVISION CONTEXT
#
# The token is that of a user who is limited to the stack: docs/security.md, "Give a pipeline access".
set -eu
: "${PYSWARM_HOST:?the address of a controller}" "${PYSWARM_TOKEN:?a token of a user}"
stack=$1 name=$2 revision=$3 context=$4
image=$stack/$name

pyswarm build -t "$image:$revision" -t "$image:latest" "$context"
if pyswarm service inspect "${stack}_$name" > /dev/null 2>&1; then
    pyswarm service update --image "$image:$revision" "${stack}_$name"
else
    pyswarm service create --name "${stack}_$name" --label "com.docker.stack.namespace=$stack" "$image:$revision"
fi
