// SPDX-License-Identifier: Apache-2.0
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import java.util.zip.CRC32;

public class Busy {
    static volatile long sink;

    static int fib(int n) {
        return n < 2 ? n : fib(n - 1) + fib(n - 2);
    }

    public static void main(String[] args) {
        Pattern p = Pattern.compile("(\\d+)\\D+");
        for (;;) {
            Map<Integer, String> m = new HashMap<>();
            List<Integer> v = new ArrayList<>();
            for (int i = 0; i < 200; i++) {
                m.put(i, "v" + i);
                v.add(i * 7919 % 101);
            }
            v.sort((a, b) -> Integer.compare(a, b));
            CRC32 crc = new CRC32();
            crc.update(m.toString().getBytes());
            sink += crc.getValue() + fib(12) + (p.matcher(m.toString()).find() ? 1 : 0);
            try {
                throw new IllegalStateException("x");
            } catch (IllegalStateException e) {
                sink++;
            }
        }
    }
}
