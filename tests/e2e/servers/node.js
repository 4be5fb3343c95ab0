// SPDX-License-Identifier: LGPL-2.1-or-later
// Files with a length, /chunked/FILE without one, /gzip/FILE by libuv's threads; what is posted.
'use strict';
const fs = require('fs');
const http = require('http');
const zlib = require('zlib');

http.createServer((request, response) => {
    const [, how, file] = request.url.match(/^\/(?:(chunked|gzip|empty)\/?)?(\d*)$/) || [];
    if (how === 'empty') {
        response.writeHead(204).end();
    } else if (request.method === 'POST') {
        response.setHeader('Content-Length', request.headers['content-length']);
        request.pipe(response);
    } else if (file === undefined) {
        response.writeHead(404).end('nothing\n');
    } else if (how === 'gzip') {
        fs.createReadStream(`/srv/www/${file}`).pipe(zlib.createGzip()).pipe(response);
    } else {
        const path = `/srv/www/${file}`;
        if (how !== 'chunked')
            response.setHeader('Content-Length', fs.statSync(path).size);
        response.setHeader('X-Energy-Score', 'forged');
        fs.createReadStream(path).pipe(response);
    }
}).listen(8085);
