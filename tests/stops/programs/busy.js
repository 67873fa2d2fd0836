// SPDX-License-Identifier: Apache-2.0
'use strict';
const zlib = require('zlib');
const crypto = require('crypto');

function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

for (;;) {
  const data = JSON.stringify(Array.from({ length: 200 }, (_, i) => ({ k: i, v: String(i) })));
  JSON.parse(data);
  data.match(/(\d+)\D+/g);
  zlib.deflateSync(data);
  crypto.createHash('sha256').update(data).digest('hex');
  Array.from({ length: 200 }, (_, i) => i * 7919 % 101).sort((a, b) => a - b);
  fib(12);
  try { null.x; } catch (e) { }
}
