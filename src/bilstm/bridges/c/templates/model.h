/* @title@ Written by bilstm @version@.
 *
 * Any C++ compiler builds it: GCC 11, Clang 14 or later; no library is needed. On x86-64 with AVX2 and FMA:
 *
 *     c++ @flags@ -march=x86-64-v3 -pthread example.cpp @name@.cpp -o example
 *
 * On 64-bit Arm leave out -march. With these options, results have the bits that bilstm gives; with others,
 * @name@_open refuses. C programs include this header, and are linked by c++.
 */
#ifndef @NAME@_H
#define @NAME@_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

@constants@
typedef struct @name@_model @name@_model;

/* Makes the model ready for sequences of up to most_steps steps: all memory is taken here. NULL if that fails; *problem,
 * unless problem is NULL, then says why. A model is for one thread at a time; each thread may open its own. */
@name@_model* @name@_open(int64_t most_steps, const char** problem);

@predict_comment@
int @name@_predict(@name@_model* model, @parameters@, int64_t steps, @output@* outputs);

void @name@_close(@name@_model* model);

#ifdef __cplusplus
}
#endif

#endif
