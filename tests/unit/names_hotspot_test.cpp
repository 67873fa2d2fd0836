/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime_names.h"

using namespace runtime_names;

namespace {

TEST(names_hotspot, jcmd_of_openjdk_17)
{
	const std::string outer = "App.outer(App$Inner, java.lang.String[], java.util.function.IntUnaryOperator) [java]",
			  lambda = "App$$Lambda$1/0x00007fa110000c18.applyAsInt(int) [java]", spin = "App$Inner.spin(int) [java]",
			  index_of = "java.lang.String.indexOf(java.lang.String) [java]";
	EXPECT_EQ(names_of("openjdk-17.map"),
		  (std::vector<std::string>{ spin, spin, index_of, lambda, outer, outer, "java.lang.Object.<init>() [java]", spin, spin,
					     index_of, lambda, outer, "StubRoutines (1) [stub]", "Interpreter [interp]",
					     "I2C/C2I adapters [stub]", "_new_array_Java [jit]", "new_instance Runtime1 stub [stub]" }));
}

TEST(names_hotspot, jcmd_of_jdk_25)
{
	const std::string outer = "App.outer(App$Inner, java.lang.String[], java.util.function.IntUnaryOperator) [java]",
			  lambda = "App$$Lambda/0x0000000022040428.applyAsInt(int) [java]", spin = "App$Inner.spin(int) [java]";
	EXPECT_EQ(names_of("temurin-25.map"),
		  (std::vector<std::string>{ "jdk.internal.vm.Continuation.doYield() [java]", spin, spin, lambda, outer, outer,
					     "java.lang.Enum.<init>(java.lang.String, int) [java]", spin, spin, lambda,
					     "App.lambda$main$0(int) [java]", outer, "StubRoutines (initialstubs) [stub]",
					     "Interpreter [interp]", "Shared Runtime ic_miss_blob [stub]",
					     "C1 Runtime new_instance_blob [stub]", "C2 Runtime new_array_nozero [stub]",
					     "C2 Runtime new_array [stub]" }));
}

TEST(names_hotspot, methods_of_every_form)
{
	EXPECT_EQ(parts("byte[][] a.B.f(byte[][], long)"), "a.B.f(byte[][], long) [java]");
	EXPECT_EQ(parts("void App.<clinit>()"), "App.<clinit>() [java]");
	EXPECT_EQ(parts("void Größe.f-impl(int)"), "Größe.f-impl(int) [java]"); /* Kotlin */
	EXPECT_EQ(parts("void a.B.$plus$eq(java.lang.Object)"), "a.B.$plus$eq(java.lang.Object) [java]"); /* Scala */
}

TEST(names_hotspot, the_agent_of_perf)
{
	EXPECT_EQ(parts("Ljava/lang/String;charAt(I)C"), "Ljava/lang/String;charAt(I)C [java]");
	EXPECT_EQ(parts("LApp;<init>([[BLjava/lang/String;J)V"), "LApp;<init>([[BLjava/lang/String;J)V [java]");
	expect_as_written({ "Ljava/lang/String;charAt(I)", "Ljava/lang/String;charAt(X)V", "Ljava/lang/String;charAt(IV", "L;f()V", "LApp;()V",
			    "Ljava/lang/String", "LApp;f()VV", "LApp;f(L)V", "Lua;f x()V" });
}

/* C++ has no dots, and names no result of an ordinary function. */
TEST(names_hotspot, others_names_stay_as_they_are)
{
	expect_as_written({ "int f(int)", "void ns::f(int)", "int ns::f.part.0(int)", "int f(int) [clone .part.0]", "f", "a.b(int)", "a.b",
			    "int a.b", "int a.b(", "int a.b()x", "int a.b(int,int)", "int a.b(int, )", "int  a.b()", " a.b()", "int .b()", "int a.()",
			    "int a.<main>()", "unsigned long a.b(int)", "int a.b(int*)", "int a.b(std::string)", "The end. (I)",
			    "Interpreters", "an Interpreter", "StubRoutines", "Runtime1 stub", "SafepointBlobs" });
}

} // namespace
