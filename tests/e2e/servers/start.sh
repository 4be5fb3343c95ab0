#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Starts the servers of test_request_servers.py in their guest, each as a unit of systemd:
# nginx 8081 (h2c 8082, TLS 8083), apache2 8084, node 8085, python 8086, uvicorn 8087.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
www=/srv/www
mkdir -p $www
for size in 1 100 4095 4096 65536 1000000 10000000; do
    # Of every byte, line ends as well: what a body looks like must not matter.
    yes 'HTTP/1.1 200 OK
X-Energy-Score: 1
' 2>/dev/null | head -c $((size / 2)) >$www/$size
    openssl enc -aes-128-ctr -K 00 -iv 00 -nosalt </dev/zero 2>/dev/null |
        head -c $((size - size / 2)) >>$www/$size
    touch -d 2026-01-01 $www/$size
done
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
    -keyout /etc/ssl/key.pem -out /etc/ssl/cert.pem 2>/dev/null

cp "$here/nginx.conf" /etc/nginx/nginx.conf
cp "$here/apache.conf" /etc/apache2/sites-enabled/000-default.conf
echo 'Listen 8084' >/etc/apache2/ports.conf
a2enmod -q http2
systemctl start nginx apache2
systemd-run -q --unit node node "$here/node.js"
systemd-run -q --unit python python3 -m http.server --protocol HTTP/1.1 --directory $www 8086
systemd-run -q --unit uvicorn --working-directory "$here" \
    uvicorn --port 8087 --log-level error uvicorn_app:app
for port in 8081 8084 8085 8086 8087; do
    for i in $(seq 300); do
        ! curl -s -o /dev/null localhost:$port/1 || break
        sleep 0.1
    done
done
