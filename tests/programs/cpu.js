// SPDX-License-Identifier: Apache-2.0
// A CPU-bound program with a known chain of functions, for profiles:
//     outer -> middle -> inner
// It runs for the given number of seconds (default 3).
//
//     node --perf-basic-prof --interpreted-frames-native-stack --no-turbo-inlining cpu.js 3
'use strict';

function inner(n) {
  let x = n | 1;
  for (let i = 0; i < 20000; i++)
    x = (x * 48271) % 2147483647;
  return x;
}

function middle(n) {
  let x = n;
  for (let i = 0; i < 50; i++)
    x = inner(x + i);
  return x;
}

function outer(n) {
  return middle(n) + 1;
}

const end = Date.now() + 1000 * Number(process.argv[2] || 3);
let x = 0;

while (Date.now() < end)
  x = outer(x);
console.log('done', x);
