#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# run.sh SERVER: prints its port, and is one of the servers of test_request_servers.py, as Debian
# has them. nginx listens on 8082 (h2c) and 8083 (TLS) as well.
set -e

here=$(cd "$(dirname "$0")" && pwd)
case $1 in
nginx)
    echo 8081
    exec nginx -g 'daemon off;'
    ;;
apache)
    echo 8084
    # shellcheck source=/dev/null
    . /etc/apache2/envvars
    mkdir -p "$APACHE_RUN_DIR"
    exec apache2 -D FOREGROUND
    ;;
node)
    echo 8085
    exec node "$here/node.js"
    ;;
python)
    echo 8086
    exec python3 -m http.server --protocol HTTP/1.1 --directory /srv/www 8086 2>/dev/null
    ;;
uvicorn)
    echo 8087
    cd "$here"
    exec uvicorn --port 8087 --log-level error uvicorn_app:app
    ;;
esac
