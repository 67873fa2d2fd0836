<?php
// SPDX-License-Identifier: Apache-2.0
function fib($n) { return $n < 2 ? $n : fib($n - 1) + fib($n - 2); }

while (true) {
    $data = json_encode(array_map(fn($i) => ["k" => $i, "v" => "$i"], range(0, 200)));
    json_decode($data, true);
    preg_match_all('/(\d+)\D+/', $data, $m);
    $v = range(0, 200);
    usort($v, fn($a, $b) => $a * 7919 % 101 <=> $b * 7919 % 101);
    fib(12);
    try { throw new Exception("x"); } catch (Exception $e) { }
}
