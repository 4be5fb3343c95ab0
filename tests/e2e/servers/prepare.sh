#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# prepare.sh LARGEST: makes what the servers of run.sh send, of up to so many bytes, and their
# settings.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
www=/srv/www
mkdir -p $www
for size in 1 2 100 1000 4095 4096 4097 16384 65535 65536 300000 1000000 10000000 100000000; do
    [ $size -le "$1" ] || continue
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
