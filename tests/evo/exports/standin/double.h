// The text of kernels in double precision.
#define float double
#define sqrtf sqrt
#define expf exp
#define logf log
#define tanhf tanh
#define sinf sin
#define cosf cos
#define atan2f atan2
#define floorf floor
#define fabsf fabs
#define fmodf fmod
#define powf pow
#define fmaxf fmax
#define erff erf
