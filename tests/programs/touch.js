// SPDX-License-Identifier: Apache-2.0
//
// Touches fresh memory, from inside named functions that call each other, until
// it is killed or SECONDS are over:  node FLAGS tests/programs/touch.js [SECONDS]
//
// An array this large is a mapping of its own, of which every page is first
// touched (and so made by the kernel) in touchPages. Everything runs below
// the script's own top level, so the native frames beneath are those of node's
// start, not of its event loop.
'use strict';

const SIZE = 40 << 20; // above what malloc ever keeps to itself
const PAGE = 4096;

function touchPages(bytes) {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += PAGE) {
    bytes[at] = at & 255;
    sum += bytes[at];
  }
  return sum;
}

function fillBuffer(size) {
  const bytes = new Uint8Array(size);
  return touchPages(bytes);
}

function handleRequest(number) {
  let sum = 0;
  for (let part = 0; part < 2; part++) sum += fillBuffer(SIZE);
  return sum + number;
}

function serve(until) {
  let requests = 0;
  let sum = 0;
  while (Date.now() < until) sum = (sum + handleRequest(requests++)) % 65536;
  return requests;
}

const seconds = Number(process.argv[2] || Infinity);
serve(Date.now() + seconds * 1000);
