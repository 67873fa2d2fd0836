// SPDX-License-Identifier: Apache-2.0
//
// Touches fresh memory, from inside named functions that call each other, until
// it is killed or SECONDS are over:  node FLAGS tests/programs/touch.js [SECONDS]
//
// A buffer this large is a mapping of its own, of which every page is first
// touched (and so made by the kernel) in touchPages, a few thousand a second:
// one buffer lasts longer than a trace, so that what is seen is the touching,
// not the making and freeing of buffers. Everything runs below the script's own
// top level, so the native frames beneath are those of node's start, not of its
// event loop.
'use strict';

const SIZE = 256 << 20;
const PAGE = 4096;
const ROUNDS = 40;

function hashPage(bytes, at) {
  let hash = 0;
  for (let round = 0; round < ROUNDS; round++)
    for (let i = at; i < at + PAGE; i++) hash = (hash * 31 + bytes[i]) | 0;
  return hash;
}

function touchPages(bytes, until) {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += PAGE) {
    bytes[at] = at & 255; // the first touch: the kernel makes the page
    sum = (sum + hashPage(bytes, at)) | 0;
    if (Date.now() > until) break;
  }
  return sum;
}

function handleRequest(until) {
  const bytes = new Uint8Array(SIZE);
  return touchPages(bytes, until);
}

function serve(until) {
  let sum = 0;
  while (Date.now() < until) sum = (sum + handleRequest(until)) | 0;
  return sum;
}

const seconds = Number(process.argv[2] || Infinity);
serve(Date.now() + seconds * 1000);
